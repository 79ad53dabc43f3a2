WITH f AS (
  SELECT key, line, flag, at, note,
    CAST(quantity AS DOUBLE) * CASE line WHEN 1 THEN CAST('1e16' AS DOUBLE) WHEN 2 THEN CAST('1e-9' AS DOUBLE) ELSE CAST('0.1' AS DOUBLE) END AS x,
    CAST(quantity AS DOUBLE) / 7 AS y
  FROM a
)
SELECT key, sum(DISTINCT x) AS s, avg(DISTINCT y) AS m, stddev(DISTINCT y) AS d, var(DISTINCT x) AS v, sum(x) AS all_of_them, count(DISTINCT y) AS n FROM f GROUP BY key
