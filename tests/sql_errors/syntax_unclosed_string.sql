SELECT key
FROM a
WHERE note = 'open
