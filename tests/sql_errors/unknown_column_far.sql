SELECT key FROM a WHERE zzzzzz = 1
