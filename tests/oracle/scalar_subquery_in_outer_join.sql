SELECT a.key, b.line FROM a LEFT JOIN b ON a.key = b.key AND b.line > (SELECT count(*) FROM c)
