SELECT key, count(*) AS n FROM a GROUP BY keys
