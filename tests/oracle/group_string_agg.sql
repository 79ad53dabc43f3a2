SELECT key, string_agg(note, ', ' ORDER BY at DESC) AS t, string_agg(note, '' ORDER BY at DESC) FILTER (WHERE flag) AS f FROM a GROUP BY key
