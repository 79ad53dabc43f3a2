SELECT key, percentile_cont(line) WITHIN GROUP (ORDER BY quantity) AS p FROM a GROUP BY key, line
