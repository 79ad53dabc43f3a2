WITH d AS (SELECT key, at - TIMESTAMP '1970-01-01T03:00:00Z' AS took FROM a) SELECT key, sum(took) AS s, avg(took) AS m, min(took) AS least, max(took) AS most FROM d GROUP BY key
