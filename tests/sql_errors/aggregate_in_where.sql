SELECT key FROM a WHERE sum(quantity) > 3 GROUP BY key
