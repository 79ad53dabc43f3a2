WITH f AS (
  SELECT key, line, flag, at, note,
    CASE
      WHEN note LIKE '%0' THEN CAST('NaN' AS DOUBLE)
      WHEN note LIKE '%1' THEN CAST('-0' AS DOUBLE)
      WHEN note LIKE '%2' THEN CAST('0' AS DOUBLE)
      WHEN note LIKE '%3' AND flag THEN CAST('inf' AS DOUBLE)
      ELSE CAST(line AS DOUBLE) / 3
    END AS x
  FROM a
)
SELECT x, count(*) AS n, sum(line) AS s FROM f GROUP BY x
