SELECT flag, line % 2 AS odd, key, count(*) AS n FROM a GROUP BY flag, ROLLUP (line % 2, key)
