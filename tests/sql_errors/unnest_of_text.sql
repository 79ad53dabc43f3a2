SELECT unnest(key) AS n FROM a
