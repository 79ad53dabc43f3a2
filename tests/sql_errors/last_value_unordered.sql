SELECT key, last_value(line) AS l FROM a GROUP BY key
