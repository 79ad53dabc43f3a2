SELECT key, any_value(note ) AS n FROM a GROUP BY key
