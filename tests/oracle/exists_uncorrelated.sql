SELECT key, quantity FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.flag AND b.line = 2 AND b.key = 'key-1')
