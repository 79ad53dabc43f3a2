WITH f AS (
  SELECT key, line, flag, at, note,
    CAST(quantity AS DOUBLE) * CASE line WHEN 1 THEN CAST('1e16' AS DOUBLE) WHEN 2 THEN CAST('1e-9' AS DOUBLE) ELSE CAST('0.1' AS DOUBLE) END AS x,
    CAST(quantity AS DOUBLE) / 7 AS y
  FROM a
)
SELECT key, percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS p50, percentile_cont(0.9) WITHIN GROUP (ORDER BY x DESC) AS p10, quantile_cont(y, 0.9) AS p90, percentile_cont(0.25) WITHIN GROUP (ORDER BY line) FILTER (WHERE flag) AS l, percentile_cont(0) WITHIN GROUP (ORDER BY y) AS least, percentile_cont(1) WITHIN GROUP (ORDER BY y) AS most, first_value(note ORDER BY at DESC) AS n FROM f GROUP BY key
