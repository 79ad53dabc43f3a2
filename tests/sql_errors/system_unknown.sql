SELECT source, count(*) AS n
FROM milepost.dead_leters
GROUP BY source
