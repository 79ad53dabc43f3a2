SELECT key FROM a WHERE note IN ('x', 'y') AND key NOT IN (SELECT key FROM b)
