SELECT key, line, (SELECT count(*) FROM b WHERE b.key = a.key AND b.flag) AS n FROM a WHERE (SELECT count(*) FROM c WHERE c.line = a.line) > 1
