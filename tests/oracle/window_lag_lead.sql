SELECT key, at, lag(at) OVER (PARTITION BY key ORDER BY at, line) AS before, lead(quantity, 2, 0) OVER (PARTITION BY key ORDER BY at DESC NULLS LAST) AS after FROM a
