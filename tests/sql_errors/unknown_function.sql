SELECT key, conut(line) AS n FROM a GROUP BY key
