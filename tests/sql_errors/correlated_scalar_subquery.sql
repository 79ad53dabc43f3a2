SELECT key, (SELECT b.note FROM b WHERE b.key = a.key) AS n FROM a
