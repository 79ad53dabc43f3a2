SELECT key FROM a WHERE note <= watermark()
