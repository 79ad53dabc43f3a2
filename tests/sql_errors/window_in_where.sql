SELECT key FROM a WHERE row_number() OVER (ORDER BY at) = 1
