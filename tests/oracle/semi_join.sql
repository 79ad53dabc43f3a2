SELECT key, line, note FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.key = a.key AND b.quantity > a.quantity)
