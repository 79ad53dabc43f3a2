SELECT count(*) AS n FROM a LIMIT 1
