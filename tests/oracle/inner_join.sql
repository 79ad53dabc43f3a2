SELECT a.key, a.line, a.quantity, b.quantity AS other FROM a JOIN b ON a.key = b.key AND a.line = b.line
