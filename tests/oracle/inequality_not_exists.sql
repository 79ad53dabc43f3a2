SELECT key, quantity FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.at > a.at AND b.line < a.line)
