SELECT key, line, at FROM (SELECT key, line, at, row_number() OVER (PARTITION BY key ORDER BY at DESC) AS n FROM a) WHERE n = 1
