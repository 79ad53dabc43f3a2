SELECT now() AS n, random() AS r, array_agg(line) AS l, watermark() AS w FROM a GROUP BY key
