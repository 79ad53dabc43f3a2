SELECT key, count(DISTINCT line) AS l, sum(CAST(quantity AS DECIMAL(28, 3))) AS s FROM a GROUP BY key
