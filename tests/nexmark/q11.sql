-- Nexmark 11: user sessions. How many bids a user made without a pause of 10 seconds, once that pause has come.
WITH marked AS (
  SELECT
    bidder,
    date_time,
    CASE
      WHEN date_time <= lag(date_time) OVER (PARTITION BY bidder ORDER BY date_time) + INTERVAL '10 seconds' THEN 0
      ELSE 1
    END AS opens
  FROM bid
),
numbered AS (
  SELECT
    bidder,
    date_time,
    sum(opens) OVER (PARTITION BY bidder ORDER BY date_time ROWS UNBOUNDED PRECEDING) AS session
  FROM marked
)
SELECT bidder, count(*) AS bid_count, min(date_time) AS starttime, max(date_time) + INTERVAL '10 seconds' AS endtime
FROM numbered
GROUP BY bidder, session
HAVING max(date_time) + INTERVAL '10 seconds' <= watermark()
