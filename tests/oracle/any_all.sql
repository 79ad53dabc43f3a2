SELECT key, quantity FROM a WHERE quantity > ALL (SELECT quantity FROM b WHERE b.line = 3 AND b.quantity IS NOT NULL) OR line = ANY (SELECT line FROM c WHERE c.flag)
