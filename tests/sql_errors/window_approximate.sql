SELECT key, approx_distinct(note) OVER (PARTITION BY key) AS n FROM a
