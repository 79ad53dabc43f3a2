SELECT a.key, a.line, b.key AS other, b.quantity FROM a CROSS JOIN b WHERE b.flag AND a.line = 1
