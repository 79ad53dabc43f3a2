SELECT key, array_agg(line) AS l FROM a GROUP BY key
