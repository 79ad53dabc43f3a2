SELECT key, line FROM a INTERSECT SELECT key, line FROM b
