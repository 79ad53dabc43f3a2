-- Nexmark 10: log to file system. Bids with the folders that they go to; a Parquet sink partitioned by both writes them.
SELECT
  auction, bidder, price, date_time, extra,
  to_char(date_time, '%Y-%m-%d') AS dt,
  to_char(date_time, '%H:%M') AS hm
FROM bid
