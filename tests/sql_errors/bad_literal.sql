SELECT key FROM a WHERE at > TIMESTAMP 'yesterday'
