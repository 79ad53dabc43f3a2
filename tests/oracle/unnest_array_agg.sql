SELECT key, unnest(lines) AS line FROM (SELECT key, array_agg(line ORDER BY line) AS lines FROM a GROUP BY key)
