SELECT x.key, y.most
FROM (SELECT key, 1 AS one FROM a) AS x
JOIN (SELECT max(quantity) AS most, 1 AS one FROM b) AS y ON x.one = y.one
