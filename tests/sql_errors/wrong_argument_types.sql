SELECT key, bool_and(quantity) AS b FROM a GROUP BY key
