SELECT key FROM a WHERE at > 'yesterday'
