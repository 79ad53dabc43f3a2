SELECT key, line FROM a UNION SELECT key, line FROM b
