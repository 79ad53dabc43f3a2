SELECT key FROM a WHERE line = $1
