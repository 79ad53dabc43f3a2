SELECT key, row_number() OVER (PARTITION BY key) AS n FROM a
