SELECT line, date_part('hour', at) AS hour, count(*) AS n, count(DISTINCT id) AS ids
FROM rows
GROUP BY line, date_part('hour', at)
