WITH per_key AS (SELECT key, sum(quantity) AS s FROM a GROUP BY key), most AS (SELECT max(s) AS m FROM per_key) SELECT key, s FROM per_key CROSS JOIN most WHERE s * 2 > m
