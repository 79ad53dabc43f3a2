SELECT key, first_value(note ORDER BY at) IGNORE NULLS AS f, last_value(line ORDER BY at) IGNORE NULLS AS l, first_value(line ORDER BY at NULLS FIRST) FILTER (WHERE flag) AS g FROM a GROUP BY key
