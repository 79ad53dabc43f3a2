WITH f AS (
  SELECT key, line, flag, at, note,
    CAST(quantity AS DOUBLE) * CASE line WHEN 1 THEN CAST('1e16' AS DOUBLE) WHEN 2 THEN CAST('1e-9' AS DOUBLE) ELSE CAST('0.1' AS DOUBLE) END AS x,
    CAST(quantity AS DOUBLE) / 7 AS y
  FROM a
)
SELECT key, count(*) AS n, sum(line) AS l, sum(x) AS s, median(y) AS m, min(y) AS least, percentile_cont(y, 0.9) AS p, count(DISTINCT note) AS notes, last_value(note ORDER BY at) AS last FROM f GROUP BY key HAVING count(*) > 1
