SELECT key, line FROM a WHERE flag OR EXISTS (SELECT 1 FROM b WHERE b.key = a.key AND b.line = a.line)
