SELECT DISTINCT ON (key) key, note FROM a ORDER BY at
