SELECT key, quantity, note FROM a ORDER BY quantity DESC LIMIT 5
