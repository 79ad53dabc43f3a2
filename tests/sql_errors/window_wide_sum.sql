SELECT key, sum(CAST(quantity AS DECIMAL(38, 3))) OVER (PARTITION BY key) AS s FROM a
