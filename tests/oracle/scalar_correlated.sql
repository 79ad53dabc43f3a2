SELECT key, line, (SELECT max(b.quantity) FROM b WHERE b.key = a.key) AS most FROM a
