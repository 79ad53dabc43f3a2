-- order_line_commitments: how much stock an order line still binds.
-- Grain: one row per order line. Units: quantities in the item's base unit. Owner: order-to-cash team.
--
-- What was ordered is what the last release or change says. Open allocations are what was allocated and not picked; released, not
-- picked is what was ordered beyond what was allocated or picked. A cancelled line binds nothing.
WITH lines AS (
  SELECT
    order_id, order_line,
    last_value(site ORDER BY occurred_at, recorded_at, event_id) AS site,
    last_value(sku ORDER BY occurred_at, recorded_at, event_id) AS sku,
    coalesce(last_value(quantity ORDER BY occurred_at, recorded_at, event_id)
      FILTER (WHERE event_type IN ('order.released', 'order.changed')), 0) AS ordered,
    coalesce(sum(quantity) FILTER (WHERE event_type = 'stock.allocated'), 0) AS allocated,
    coalesce(sum(quantity) FILTER (WHERE event_type = 'pick.confirmed'), 0) AS picked,
    count(*) FILTER (WHERE event_type = 'order.cancelled') AS cancellations,
    count(*) FILTER (WHERE quantity IS NULL) AS unknown_units
  FROM base_quantities
  WHERE event_type IN ('order.released', 'order.changed', 'order.cancelled', 'stock.allocated', 'pick.confirmed')
  GROUP BY order_id, order_line
)
SELECT
  order_id, order_line, site, sku,
  CAST(ordered AS DECIMAL(18, 3)) AS ordered_quantity,
  CAST(allocated AS DECIMAL(18, 3)) AS allocated_quantity,
  CAST(picked AS DECIMAL(18, 3)) AS picked_quantity,
  cancellations > 0 AS is_cancelled,
  CAST(CASE WHEN cancellations > 0 OR allocated <= picked THEN 0 ELSE allocated - picked END AS DECIMAL(18, 3)) AS open_allocated,
  CAST(CASE
    WHEN cancellations > 0 OR ordered <= greatest(allocated, picked) THEN 0
    ELSE ordered - greatest(allocated, picked)
  END AS DECIMAL(18, 3)) AS released_not_picked,
  unknown_units
FROM lines
