SELECT a.key, a.quantity, b.key AS other_key, b.quantity AS other FROM a FULL JOIN b ON a.key = b.key AND a.quantity > b.quantity
