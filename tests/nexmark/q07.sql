-- Nexmark 7: highest bid of each window of 10 seconds that is over.
SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
FROM bid AS b
JOIN (
  SELECT max(price) AS highest, date_bin(INTERVAL '10 seconds', date_time) + INTERVAL '10 seconds' AS endtime
  FROM bid
  GROUP BY date_bin(INTERVAL '10 seconds', date_time)
) AS w ON b.price = w.highest
WHERE b.date_time >= w.endtime - INTERVAL '10 seconds'
  AND b.date_time < w.endtime
  AND CAST(w.endtime AS TIMESTAMP(6)) <= watermark()
