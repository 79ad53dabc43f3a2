SELECT key, quantity FROM a WHERE key IN (SELECT key FROM b WHERE line = 2)
