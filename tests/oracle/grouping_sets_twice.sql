SELECT key, flag, count(*) AS n FROM a GROUP BY GROUPING SETS ((key), (flag), (key))
