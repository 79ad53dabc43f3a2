SELECT key, count(*) AS rows, count(*) FILTER (WHERE at + INTERVAL '30 minutes' <= watermark()) AS passed, bool_or(at > watermark()) AS ahead FROM a GROUP BY key
