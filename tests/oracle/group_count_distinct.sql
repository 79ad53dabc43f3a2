SELECT key, count(DISTINCT line) AS lines, count(DISTINCT note) AS notes, count(*) AS rows FROM a GROUP BY key
