SELECT a.quantity, b.key, b.line FROM a RIGHT JOIN b ON a.key = b.key AND a.line = b.line AND a.flag
