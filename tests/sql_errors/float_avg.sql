SELECT key, avg(CAST(quantity AS DOUBLE)) AS m FROM a GROUP BY key
