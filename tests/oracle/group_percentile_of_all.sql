SELECT percentile_cont(quantity, 0.9) AS p90, median(line) AS m, median(quantity) FILTER (WHERE flag AND line = 1) AS f, count(*) AS n FROM a
