SELECT key, line, sum(quantity) AS s
FROM a
GROUP BY ROLLUP (key, line)
