WITH s AS (SELECT key, sum(quantity) AS total FROM a GROUP BY key), t AS (SELECT key, min(at) AS first FROM b GROUP BY key)
SELECT s.key, s.total, t.first FROM s LEFT JOIN t ON s.key = t.key WHERE s.total > 0 OR t.first IS NULL
