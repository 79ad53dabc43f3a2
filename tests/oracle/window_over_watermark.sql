SELECT key, line, count(*) FILTER (WHERE at <= watermark()) OVER (PARTITION BY key) AS n FROM a
