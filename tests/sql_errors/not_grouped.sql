SELECT key, note, count(*) AS n
FROM a
GROUP BY key
