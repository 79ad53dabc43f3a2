SELECT key, watermark() AS w FROM a
