WITH f AS (
  SELECT key, line, flag, at, note,
    CAST(quantity AS DOUBLE) * CASE line WHEN 1 THEN CAST('1e16' AS DOUBLE) WHEN 2 THEN CAST('1e-9' AS DOUBLE) ELSE CAST('0.1' AS DOUBLE) END AS x,
    CAST(quantity AS DOUBLE) / 7 AS y
  FROM a
)
SELECT key, regr_slope(y, x) AS b, regr_intercept(y, x) AS a, regr_count(y, x) AS n, regr_r2(y, x) AS r, regr_avgx(y, x) AS ax, regr_avgy(y, x) AS ay, regr_sxx(y, x) AS xx, regr_syy(y, x) AS yy, regr_sxy(y, x) AS xy FROM f GROUP BY key
