SELECT key FROM a WHERE at < now()
