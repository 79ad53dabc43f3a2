-- Nexmark 8: monitor new users. Who came and opened an auction in one window of 10 seconds, once it is over.
SELECT p.id, p.name, p.starttime
FROM (
  SELECT DISTINCT id, name, date_bin(INTERVAL '10 seconds', date_time) AS starttime FROM person
) AS p
JOIN (
  SELECT DISTINCT seller, date_bin(INTERVAL '10 seconds', date_time) AS starttime FROM auction
) AS a ON p.id = a.seller AND p.starttime = a.starttime
WHERE CAST(p.starttime + INTERVAL '10 seconds' AS TIMESTAMP(6)) <= watermark()
