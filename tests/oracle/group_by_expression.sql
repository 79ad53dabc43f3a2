SELECT date_trunc('hour', at) AS hour, upper(key) AS key, count(*) AS rows FROM a GROUP BY date_trunc('hour', at), upper(key)
