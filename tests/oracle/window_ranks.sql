SELECT key, line, rank() OVER w AS r, dense_rank() OVER w AS d, percent_rank() OVER w AS p, cume_dist() OVER w AS c, row_number() OVER w AS n, ntile(3) OVER w AS t
FROM a WINDOW w AS (PARTITION BY key ORDER BY line)
