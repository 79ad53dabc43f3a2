SELECT key FROM a WHERE at <= watermark(1)
