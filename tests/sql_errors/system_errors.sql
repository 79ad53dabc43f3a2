SELECT job, count(*) AS failed
FROM milepost.errors
GROUP BY job
