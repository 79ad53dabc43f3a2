SELECT key, sum(CAST(quantity AS DECIMAL(38, 3))) AS s FROM a GROUP BY key
