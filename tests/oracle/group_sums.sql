SELECT key, count(*) AS rows, count(quantity) AS known, sum(quantity) AS total, avg(quantity) AS mean, sum(line) AS lines, avg(line) AS mean_line FROM a GROUP BY key
