SELECT a.key, a.line, b.at FROM a JOIN b ON a.key = b.key AND a.at + INTERVAL '1 hour' <= watermark() AND b.at < watermark()
