SELECT key, approx_percentile_cont_with_weight(line, 0.9) WITHIN GROUP (ORDER BY quantity) AS p FROM a GROUP BY key
