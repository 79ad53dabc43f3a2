SELECT key, line, note FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.key = a.key AND b.flag)
