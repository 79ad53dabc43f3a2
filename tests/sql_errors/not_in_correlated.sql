SELECT key FROM a WHERE line NOT IN (SELECT line FROM b WHERE b.key = a.key)
