SELECT key, count(line, note) AS both, count(line) AS l, count(*) AS n FROM a GROUP BY key
