SELECT key, line, flag FROM a ORDER BY line OFFSET 6
