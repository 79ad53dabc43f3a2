-- Nexmark 5: hot items. The auctions with the most bids in each window of 10 seconds that begins every 2 seconds and is
-- over. A bid lies in five windows: that in which it comes, and the four that began before.
WITH counts AS (
  SELECT b.auction, date_bin(INTERVAL '2 seconds', b.date_time) - hop.back AS starttime, count(*) AS num
  FROM bid AS b CROSS JOIN (
    VALUES
      (INTERVAL '0 seconds'), (INTERVAL '2 seconds'), (INTERVAL '4 seconds'), (INTERVAL '6 seconds'),
      (INTERVAL '8 seconds')
  ) AS hop (back)
  GROUP BY b.auction, date_bin(INTERVAL '2 seconds', b.date_time) - hop.back
)
SELECT c.auction, c.num, c.starttime, c.starttime + INTERVAL '10 seconds' AS endtime
FROM counts AS c
JOIN (SELECT starttime, max(num) AS most FROM counts GROUP BY starttime) AS m
  ON c.starttime = m.starttime AND c.num >= m.most
WHERE CAST(c.starttime + INTERVAL '10 seconds' AS TIMESTAMP(6)) <= watermark()
