SELECT key, first_value(line) AS l FROM a GROUP BY key
