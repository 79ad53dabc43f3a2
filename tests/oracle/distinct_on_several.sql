SELECT DISTINCT ON (key, flag) key, flag, quantity, at FROM a ORDER BY key, flag, line NULLS FIRST
