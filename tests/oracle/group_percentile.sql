SELECT key, percentile_cont(0.9) WITHIN GROUP (ORDER BY quantity) AS p, median(quantity) AS m FROM a GROUP BY key
