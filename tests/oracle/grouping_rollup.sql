SELECT key, line, flag, max(at) AS m, count(DISTINCT note) AS d FROM a GROUP BY ROLLUP (key, line, flag)
