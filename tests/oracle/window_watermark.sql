SELECT key, line, row_number() OVER (PARTITION BY key ORDER BY at) AS n FROM a WHERE at <= watermark()
