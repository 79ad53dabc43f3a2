SELECT key, avg(DISTINCT line) AS m, count(DISTINCT line) AS n FROM a GROUP BY key
