SELECT a.key, b.key
FROM a JOIN b ON a.line = b.line
