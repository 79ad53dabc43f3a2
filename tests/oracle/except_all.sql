SELECT key, line FROM a EXCEPT ALL SELECT key, line FROM b
