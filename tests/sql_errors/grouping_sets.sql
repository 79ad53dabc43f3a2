SELECT key, line, sum(quantity) AS s FROM a GROUP BY GROUPING SETS ((key), (line))
