SELECT key, avg(DISTINCT line) AS m FROM a GROUP BY key
