SELECT a.key, b.line, row_number() OVER (PARTITION BY a.key ORDER BY b.at) AS n FROM a JOIN b ON a.key = b.key WHERE a.flag AND b.line = 1
