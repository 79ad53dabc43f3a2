SELECT approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY quantity) AS p FROM a
