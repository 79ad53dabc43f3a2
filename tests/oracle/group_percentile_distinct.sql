SELECT key, percentile_cont(DISTINCT line, 0.9) AS p, median(DISTINCT quantity) AS m, percentile_cont(quantity, 0.9) AS q, percentile_cont(quantity, 0.5) AS r FROM a GROUP BY key
