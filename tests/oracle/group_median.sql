SELECT key, median(quantity) AS middle FROM a GROUP BY key
