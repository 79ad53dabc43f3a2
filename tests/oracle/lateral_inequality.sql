SELECT a.key, l.note FROM a, LATERAL (SELECT note FROM b WHERE b.at < a.at) AS l
