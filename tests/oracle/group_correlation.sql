WITH f AS (
  SELECT key, line, flag, at, note,
    CAST(quantity AS DOUBLE) * CASE line WHEN 1 THEN CAST('1e16' AS DOUBLE) WHEN 2 THEN CAST('1e-9' AS DOUBLE) ELSE CAST('0.1' AS DOUBLE) END AS x,
    CAST(quantity AS DOUBLE) / 7 AS y
  FROM a
)
SELECT key, corr(x, y) AS c, covar_samp(y, x) AS s, covar(x, line) AS t, covar_pop(x, y) AS p, corr(y, line) FILTER (WHERE flag) AS q FROM f GROUP BY key
