-- order_line_steps: the way of an order line through the warehouse, as its events tell it.
-- Grain: one row per order line. Units: quantities in uom. Owner: warehouse team.
--
-- Picks name no shipment, so that picked is counted per order line.
SELECT
  order_id, order_line,
  min(occurred_at) FILTER (WHERE event_type = 'order.released') AS released_at,
  min(occurred_at) FILTER (WHERE event_type = 'stock.allocated') AS allocated_at,
  max(occurred_at) FILTER (WHERE event_type = 'pick.confirmed') AS picked_at,
  CAST(sum(quantity) FILTER (WHERE event_type = 'stock.allocated') AS DECIMAL(18, 3)) AS allocated_quantity,
  CAST(sum(quantity) FILTER (WHERE event_type = 'pick.confirmed') AS DECIMAL(18, 3)) AS picked_quantity,
  min(occurred_at) FILTER (WHERE event_type = 'order.cancelled') AS cancelled_at
FROM events
WHERE event_type IN ('order.released', 'order.changed', 'order.cancelled', 'stock.allocated', 'pick.confirmed')
GROUP BY order_id, order_line
