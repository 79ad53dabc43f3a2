WITH f AS (
  SELECT key, line, flag, at, note,
    CAST(quantity AS DOUBLE) * CASE line WHEN 1 THEN CAST('1e16' AS DOUBLE) WHEN 2 THEN CAST('1e-9' AS DOUBLE) ELSE CAST('0.1' AS DOUBLE) END AS x,
    CAST(quantity AS DOUBLE) / 7 AS y
  FROM a
)
SELECT key, sum(x) AS s, avg(x) AS m, mean(y) AS n, stddev(x) AS d, stddev_pop(y) AS e, var(x) AS v, var_pop(y) AS w, var_sample(y) AS u FROM f GROUP BY key
