SELECT key, coalesce((SELECT min(line) FROM b WHERE note = 'no such note'), -1) AS n, (SELECT line FROM b WHERE false) AS none FROM a
