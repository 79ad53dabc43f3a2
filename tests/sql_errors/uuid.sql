SELECT key, uuid() AS id FROM a
