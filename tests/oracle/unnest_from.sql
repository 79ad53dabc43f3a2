SELECT a.key, u.n FROM a CROSS JOIN (SELECT unnest(make_array(1, 2, 3)) AS n) u WHERE a.line = u.n
