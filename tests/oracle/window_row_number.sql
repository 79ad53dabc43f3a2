SELECT key, line, note, row_number() OVER (PARTITION BY key ORDER BY at) AS n FROM a
