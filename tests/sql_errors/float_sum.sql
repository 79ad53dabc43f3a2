SELECT key, sum(CAST(quantity AS DOUBLE)) AS s FROM a GROUP BY key
