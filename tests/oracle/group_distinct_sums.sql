SELECT key, avg(DISTINCT quantity) AS m, sum(DISTINCT quantity) AS s, sum(DISTINCT line) AS n FROM a GROUP BY key
