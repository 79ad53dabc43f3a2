SELECT upperr(note) AS n FROM a
