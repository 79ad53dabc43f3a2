SELECT key, line, sum(quantity) AS s, count(*) AS n, grouping(key) AS gk, grouping(key, line) AS g FROM a GROUP BY GROUPING SETS ((key, line), (key), ())
