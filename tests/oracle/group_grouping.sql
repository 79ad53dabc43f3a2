SELECT key, grouping(key) AS g, sum(quantity) AS s FROM a GROUP BY key
