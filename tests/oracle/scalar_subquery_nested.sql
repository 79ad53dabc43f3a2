SELECT key FROM a WHERE quantity > (SELECT avg(quantity) FROM b WHERE line = (SELECT max(line) FROM c))
