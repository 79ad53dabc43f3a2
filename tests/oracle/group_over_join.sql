SELECT a.key, sum(a.quantity) AS total, count(b.key) AS matched, max(b.at) AS last FROM a LEFT JOIN b ON a.key = b.key AND a.line = b.line GROUP BY a.key
