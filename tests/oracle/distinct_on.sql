SELECT DISTINCT ON (key) key, line, note FROM a ORDER BY key, at DESC
