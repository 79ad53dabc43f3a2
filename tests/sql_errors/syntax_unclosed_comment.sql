SELECT key FROM a /* open
