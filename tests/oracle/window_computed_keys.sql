SELECT key, line, count(*) OVER (PARTITION BY line % 2, upper(key) ORDER BY date_trunc('hour', at)) AS n FROM a
