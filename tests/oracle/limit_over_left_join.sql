SELECT a.key, a.at, b.note FROM a LEFT JOIN b ON a.key = b.key AND b.line = 1 ORDER BY a.at, b.note LIMIT 10
