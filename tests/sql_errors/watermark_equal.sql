SELECT key FROM a WHERE at = watermark()
