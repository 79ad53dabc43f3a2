SELECT key, sum(quantity) AS total FROM a GROUP BY key HAVING count(*) > 2 AND sum(quantity) > 1
