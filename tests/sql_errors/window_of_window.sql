SELECT key, sum(row_number() OVER (ORDER BY at)) OVER (PARTITION BY key) AS s FROM a
