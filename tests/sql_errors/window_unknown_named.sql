SELECT key, sum(quantity) OVER w AS s FROM a
