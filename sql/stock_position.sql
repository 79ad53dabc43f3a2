-- stock_position: what lies where, as all events up to now say.
-- Grain: one row per site, sku, lot (none is ''), stock type and owner (the site's own is ''). Units: quantities in the item's base
-- unit. Owner: warehouse team.
--
-- quantity is the last count plus the movements after it, and all movements where nothing was counted yet. A movement at the instant
-- of a count comes before it; of several counts at one instant the last recorded one counts. A movement that arrives later but
-- happened before the count changes the adjustment, not the quantity.
-- adjustment is what the last count corrected: counted, less what the count before it and the movements between say.
-- quantity is null where a unit since the last count is not known (unknown_units says how many).
WITH counts AS (
  SELECT
    site, sku, lot, stock_type, owner_id,
    count(*) AS counts,
    array_agg(occurred_at ORDER BY occurred_at DESC, recorded_at DESC, event_id DESC) AS counted_ats,
    array_agg(quantity ORDER BY occurred_at DESC, recorded_at DESC, event_id DESC) AS quantities
  FROM stock_counts
  GROUP BY site, sku, lot, stock_type, owner_id
), last_counts AS (
  SELECT
    site, sku, lot, stock_type, owner_id, counts,
    counted_ats[1] AS counted_at, quantities[1] AS counted_quantity,
    counted_ats[2] AS counted_before_at, CASE WHEN counts > 1 THEN quantities[2] ELSE 0 END AS counted_before_quantity
  FROM counts
), moved AS (
  SELECT
    m.site, m.sku, m.lot, m.stock_type, m.owner_id,
    count(*) AS movements,
    max(m.occurred_at) AS moved_at,
    sum(m.quantity) FILTER (WHERE c.counted_at IS NULL OR m.occurred_at > c.counted_at) AS moved_since,
    count(*) FILTER (WHERE m.quantity IS NULL AND (c.counted_at IS NULL OR m.occurred_at > c.counted_at)) AS unknown_units,
    sum(m.quantity) FILTER (
      WHERE m.occurred_at <= c.counted_at AND (c.counted_before_at IS NULL OR m.occurred_at > c.counted_before_at)
    ) AS moved_between,
    count(*) FILTER (
      WHERE m.quantity IS NULL AND m.occurred_at <= c.counted_at
        AND (c.counted_before_at IS NULL OR m.occurred_at > c.counted_before_at)
    ) AS unknown_between
  FROM stock_movements AS m
  LEFT JOIN last_counts AS c
    ON c.site = m.site AND c.sku = m.sku AND c.lot = m.lot AND c.stock_type = m.stock_type AND c.owner_id = m.owner_id
  GROUP BY m.site, m.sku, m.lot, m.stock_type, m.owner_id
), positions AS (
  SELECT
    coalesce(m.site, c.site) AS site, coalesce(m.sku, c.sku) AS sku, coalesce(m.lot, c.lot) AS lot,
    coalesce(m.stock_type, c.stock_type) AS stock_type, coalesce(m.owner_id, c.owner_id) AS owner_id,
    coalesce(m.movements, 0) AS movements, m.moved_at, m.moved_since, m.moved_between, m.unknown_between,
    coalesce(c.counts, 0) AS counts, c.counted_at, c.counted_quantity, c.counted_before_quantity,
    coalesce(m.unknown_units, 0) + CASE WHEN c.counts > 0 AND c.counted_quantity IS NULL THEN 1 ELSE 0 END AS unknown_units
  FROM moved AS m
  FULL JOIN last_counts AS c
    ON c.site = m.site AND c.sku = m.sku AND c.lot = m.lot AND c.stock_type = m.stock_type AND c.owner_id = m.owner_id
)
SELECT
  p.site, p.sku, p.lot, p.stock_type, p.owner_id, i.abc_class, i.base_uom,
  CASE
    WHEN p.unknown_units = 0 THEN CAST(coalesce(p.counted_quantity, 0) + coalesce(p.moved_since, 0) AS DECIMAL(18, 3))
  END AS quantity,
  p.movements, p.moved_at, p.counts, p.counted_at, p.counted_quantity,
  CAST(coalesce(p.moved_since, 0) AS DECIMAL(18, 3)) AS moved_since_count,
  CASE
    WHEN coalesce(p.unknown_between, 0) = 0
      THEN CAST(p.counted_quantity - p.counted_before_quantity - coalesce(p.moved_between, 0) AS DECIMAL(18, 3))
  END AS adjustment,
  p.unknown_units,
  CASE
    WHEN p.unknown_units = 0
      THEN CAST((coalesce(p.counted_quantity, 0) + coalesce(p.moved_since, 0)) * i.unit_cost AS DECIMAL(18, 3))
  END AS stock_value
FROM positions AS p
LEFT JOIN items AS i ON i.sku = p.sku
