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
SELECT key, count(DISTINCT x) AS n, sum(DISTINCT x) AS s, min(DISTINCT x) AS least, array_agg(DISTINCT x ORDER BY x) AS l, count(DISTINCT line) AS k FROM f GROUP BY key
