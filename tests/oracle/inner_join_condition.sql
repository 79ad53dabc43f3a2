SELECT a.key, a.quantity, b.at FROM a JOIN b ON a.key = b.key AND a.quantity > b.quantity
