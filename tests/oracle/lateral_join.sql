SELECT a.key, a.line, s.total FROM a CROSS JOIN LATERAL (SELECT sum(b.quantity) AS total FROM b WHERE b.key = a.key) s
