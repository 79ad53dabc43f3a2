SELECT key, line FROM a WHERE CASE WHEN line > (SELECT count(*) / 20 FROM b) THEN at ELSE at + INTERVAL '1 hour' END <= watermark()
