SELECT key, line FROM a ORDER BY flag, line LIMIT 7
