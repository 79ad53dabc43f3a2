SELECT key FROM a WHERE flag > at
