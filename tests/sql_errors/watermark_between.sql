SELECT key FROM a WHERE watermark() BETWEEN at AND at + INTERVAL '1 day'
