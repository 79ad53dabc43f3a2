SELECT count(*) AS n FROM a
