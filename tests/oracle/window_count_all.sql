SELECT count(*) OVER () AS n FROM a
