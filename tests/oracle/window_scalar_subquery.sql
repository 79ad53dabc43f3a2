SELECT key, line, sum(line + (SELECT count(*) FROM b)) OVER (PARTITION BY key) AS n FROM a
