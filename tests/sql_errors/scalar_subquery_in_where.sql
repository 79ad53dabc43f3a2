SELECT key FROM a WHERE quantity > (SELECT avg(quantity) FROM b)
