SELECT s.key, b.line FROM (SELECT key, at FROM a ORDER BY at LIMIT 8) s JOIN b ON s.key = b.key
