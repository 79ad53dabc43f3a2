SELECT key, (SELECT line, note FROM b ORDER BY at LIMIT 1) AS n FROM a
