WITH f AS (
  SELECT key, line, flag, at, note,
    CAST(quantity AS DOUBLE) * CASE line WHEN 1 THEN CAST('1e16' AS DOUBLE) WHEN 2 THEN CAST('1e-9' AS DOUBLE) ELSE CAST('0.1' AS DOUBLE) END AS x,
    CAST(quantity AS DOUBLE) / 7 AS y
  FROM a
)
SELECT sum(x) AS s, avg(x) AS m, stddev(x) AS d, sum(y) FILTER (WHERE flag) AS t, sum(x) FILTER (WHERE line > 7) AS never FROM f
