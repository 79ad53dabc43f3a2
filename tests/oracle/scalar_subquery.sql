SELECT key, quantity, (SELECT max(quantity) FROM b) AS most, quantity - (SELECT avg(quantity) FROM b WHERE flag) AS more FROM a
