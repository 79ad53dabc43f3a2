SELECT a.key, a.at, b.note FROM a LEFT JOIN b ON a.key = b.key AND a.line = b.line WHERE b.key IS NULL AND a.at + INTERVAL '1 hour' <= watermark()
