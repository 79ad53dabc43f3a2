SELECT key, array_agg(DISTINCT line ORDER BY at) AS l FROM a GROUP BY key
