SELECT key, nth_value(line, 2 ORDER BY at) AS n, string_agg(note, ', ' ORDER BY at, line, note) AS t FROM a GROUP BY key
