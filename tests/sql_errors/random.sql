SELECT key, random() AS r FROM a
