SELECT key, line, at FROM a WHERE at > watermark() OR at IS NULL
