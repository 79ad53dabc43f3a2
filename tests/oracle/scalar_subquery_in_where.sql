SELECT key, quantity FROM a WHERE quantity > (SELECT avg(quantity) FROM b) AND line <> (SELECT count(*) % 3 FROM c)
