SELECT key, array_agg(note ORDER BY at, line) AS notes, array_agg(line ORDER BY quantity DESC) FILTER (WHERE flag) AS flagged FROM a GROUP BY key
