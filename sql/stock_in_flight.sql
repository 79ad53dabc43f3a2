-- stock_in_flight: the differences that movements explain which had not reached the ERP yet.
-- Grain: one row per position whose difference is explained so: site, sku, lot, stock type. Units: quantity in the item's base unit.
-- Owner: inventory control.
--
-- The ERP posts movements in the order in which they happened, each at most the site's posting_lag later. So a difference is timing
-- if it is what moved from some instant within the lag up to the ERP's moment: what the ERP says is what lay there then. A site
-- without a posting_lag allows none.
WITH recent AS (
  SELECT
    c.site, c.sku, c.lot, c.stock_type, c.difference, m.occurred_at,
    sum(m.quantity) AS quantity, count(*) AS movements
  FROM stock_comparison AS c
  JOIN stock_movements AS m
    ON m.site = c.site AND m.sku = c.sku AND m.lot = c.lot AND m.stock_type = c.stock_type
    AND m.occurred_at <= c.as_of AND m.occurred_at >= c.posted_up_to
  WHERE c.difference <> 0 AND m.owner_id = ''
  GROUP BY c.site, c.sku, c.lot, c.stock_type, c.difference, m.occurred_at
), moved_from AS (
  SELECT
    f.site, f.sku, f.lot, f.stock_type, f.difference, f.occurred_at,
    sum(m.quantity) AS quantity, sum(m.movements) AS movements
  FROM recent AS f
  JOIN recent AS m
    ON m.site = f.site AND m.sku = f.sku AND m.lot = f.lot AND m.stock_type = f.stock_type AND m.occurred_at >= f.occurred_at
  GROUP BY f.site, f.sku, f.lot, f.stock_type, f.difference, f.occurred_at
)
SELECT
  site, sku, lot, stock_type,
  max(occurred_at) AS in_flight_since,
  last_value(movements ORDER BY occurred_at) AS movements,
  CAST(last_value(quantity ORDER BY occurred_at) AS DECIMAL(18, 3)) AS quantity
FROM moved_from
WHERE quantity = difference
GROUP BY site, sku, lot, stock_type
