SELECT key, quantity FROM a UNION ALL SELECT key, -quantity FROM b WHERE flag UNION ALL SELECT note, CAST(line AS DECIMAL(18,3)) FROM c
