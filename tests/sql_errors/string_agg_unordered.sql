SELECT key, string_agg(note, ',') AS l FROM a GROUP BY key
