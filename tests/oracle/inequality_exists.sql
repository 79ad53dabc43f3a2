SELECT key, quantity FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.at > a.at AND b.line < a.line)
