SELECT key, (SELECT max(quantity) FROM b) AS most FROM a
