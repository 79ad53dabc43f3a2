-- Nexmark 6: average selling price by seller, over the auction and the ten before it that closed.
WITH closed AS (
  SELECT a.seller, a.id, a.expires, max(b.price) AS final
  FROM auction AS a JOIN bid AS b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
  WHERE a.expires <= watermark()
  GROUP BY a.seller, a.id, a.expires
)
SELECT
  seller,
  id,
  avg(final) OVER (PARTITION BY seller ORDER BY expires, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS price
FROM closed
