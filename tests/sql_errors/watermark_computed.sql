SELECT key FROM a WHERE watermark() - INTERVAL '1 day' > at
