SELECT key, avg(CAST(quantity AS DECIMAL(38, 10))) AS m, avg(quantity * quantity) AS q FROM a GROUP BY key
