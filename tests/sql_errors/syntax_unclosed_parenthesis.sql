SELECT key, (quantity + 1
FROM a
