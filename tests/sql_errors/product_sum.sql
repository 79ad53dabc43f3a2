SELECT key, sum(quantity * quantity) AS s FROM a GROUP BY key
