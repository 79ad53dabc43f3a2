SELECT key, quantity
FROM a
WHERE line = = 1
