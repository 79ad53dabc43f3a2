SELECT DISTINCT ON (key) key, note FROM a
