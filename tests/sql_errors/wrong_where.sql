SELECT key FROM a WHERE quantity
