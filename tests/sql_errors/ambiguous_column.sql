SELECT key
FROM a
JOIN b ON a.line = b.line
