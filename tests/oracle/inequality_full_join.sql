SELECT a.key, a.line, b.key AS other, b.line AS other_line FROM a FULL JOIN b ON a.line < b.line AND a.quantity < b.quantity
