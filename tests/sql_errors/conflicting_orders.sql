SELECT key, nth_value(line, 2 ORDER BY at) AS x, nth_value(note, 2 ORDER BY quantity) AS y FROM a GROUP BY key
