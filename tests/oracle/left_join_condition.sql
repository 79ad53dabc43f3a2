SELECT a.key, a.line, a.quantity, b.quantity AS other FROM a LEFT JOIN b ON a.key = b.key AND b.quantity < a.quantity AND b.flag
