SELECT key, nth_value(line, 2 ORDER BY at) AS second, nth_value(note, -1 ORDER BY at) AS last, nth_value(quantity, 3 ORDER BY at) FILTER (WHERE flag) AS third FROM a GROUP BY key
