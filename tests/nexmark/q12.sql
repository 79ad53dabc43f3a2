-- Nexmark 12: processing time windows. How many bids a user made in each 10 seconds, by the time at which the broker took
-- them: a processing time that a replay can see again.
SELECT
  bidder,
  count(*) AS bid_count,
  date_bin(INTERVAL '10 seconds', _received_at) AS starttime,
  date_bin(INTERVAL '10 seconds', _received_at) + INTERVAL '10 seconds' AS endtime
FROM bid
GROUP BY bidder, date_bin(INTERVAL '10 seconds', _received_at)
