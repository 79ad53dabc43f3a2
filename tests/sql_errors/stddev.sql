SELECT key, stddev(quantity) AS s FROM a GROUP BY key
