-- stock_at_snapshot: what the warehouse had at the moment as of which the ERP told its stock.
-- Grain: one row per site, sku, lot and stock type of the site's own stock that any event up to that moment speaks of. Units:
-- quantity in the item's base unit, null where a unit is not known. Owner: warehouse team.
--
-- The rule of stock_position, at another moment: counts and movements after it don't enter, and one at that very moment does.
WITH counted AS (
  SELECT
    c.site, c.sku, c.lot, c.stock_type,
    max(c.occurred_at) AS counted_at,
    last_value(c.quantity ORDER BY c.occurred_at, c.recorded_at, c.event_id) AS counted_quantity
  FROM stock_counts AS c
  JOIN erp_snapshots AS s ON s.site = c.site AND c.occurred_at <= s.as_of
  WHERE c.owner_id = ''
  GROUP BY c.site, c.sku, c.lot, c.stock_type
), moved AS (
  SELECT
    m.site, m.sku, m.lot, m.stock_type,
    sum(m.quantity) FILTER (WHERE c.counted_at IS NULL OR m.occurred_at > c.counted_at) AS moved_since,
    count(*) FILTER (WHERE m.quantity IS NULL AND (c.counted_at IS NULL OR m.occurred_at > c.counted_at)) AS unknown_units
  FROM stock_movements AS m
  JOIN erp_snapshots AS s ON s.site = m.site AND m.occurred_at <= s.as_of
  LEFT JOIN counted AS c ON c.site = m.site AND c.sku = m.sku AND c.lot = m.lot AND c.stock_type = m.stock_type
  WHERE m.owner_id = ''
  GROUP BY m.site, m.sku, m.lot, m.stock_type
)
SELECT
  coalesce(m.site, c.site) AS site, coalesce(m.sku, c.sku) AS sku, coalesce(m.lot, c.lot) AS lot,
  coalesce(m.stock_type, c.stock_type) AS stock_type,
  CASE
    WHEN coalesce(m.unknown_units, 0) = 0 AND (c.counted_at IS NULL OR c.counted_quantity IS NOT NULL)
      THEN CAST(coalesce(c.counted_quantity, 0) + coalesce(m.moved_since, 0) AS DECIMAL(18, 3))
  END AS quantity
FROM moved AS m
FULL JOIN counted AS c ON c.site = m.site AND c.sku = m.sku AND c.lot = m.lot AND c.stock_type = m.stock_type
