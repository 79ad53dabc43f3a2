SELECT approx_distinct(key) AS n FROM a
