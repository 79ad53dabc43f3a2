SELECT key, array_agg(line ORDER BY at) AS l, array_agg(note) AS n FROM a GROUP BY key
