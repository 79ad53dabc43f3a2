SELECT key, line, note FROM a WHERE key NOT IN (SELECT key FROM b WHERE line = 1 AND key IS NOT NULL)
