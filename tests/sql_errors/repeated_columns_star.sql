SELECT *
FROM a JOIN b ON a.key = b.key
