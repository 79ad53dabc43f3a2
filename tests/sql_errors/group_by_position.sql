SELECT key, count(*) AS n FROM a GROUP BY 5
