SELECT key, line, sum(quantity) FILTER (WHERE flag) OVER (PARTITION BY key ORDER BY at) AS s, count(*) FILTER (WHERE line > 1) OVER () AS n FROM a
