SELECT note FROM a ORDER BY quantity + line LIMIT 6
