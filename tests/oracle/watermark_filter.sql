SELECT key, line, at FROM a WHERE at <= watermark()
