SELECT a.key, a.line, b.quantity, b.note FROM a LEFT JOIN b ON a.key = b.key AND a.line = b.line
