SELECT key, sum(CAST(quantity AS DOUBLE)) OVER (PARTITION BY key ORDER BY at) AS running FROM a
