SELECT key, percentile_cont(1.9) WITHIN GROUP (ORDER BY quantity) AS p FROM a GROUP BY key
