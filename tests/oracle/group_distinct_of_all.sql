SELECT count(DISTINCT key) AS k, count(DISTINCT flag) AS f, sum(DISTINCT line) AS s FROM a
