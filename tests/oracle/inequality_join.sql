SELECT a.key, a.at, b.key AS other FROM a JOIN b ON a.at < b.at AND b.quantity > a.quantity
