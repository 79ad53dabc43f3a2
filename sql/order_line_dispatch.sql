-- order_line_dispatch: until when an order line had to leave its site, and when it did.
-- Grain: one row per order line that is not cancelled. Units: quantities in uom. Owner: warehouse team.
--
-- gone_out_at is the gate-out with which the last quantity that the line needs has left; null as long as some is missing. A
-- shipment counts at its first gate-out. Released and ordered are master data as they are NOW; the deadline is null where
-- the release or the site is not known. deadline_day is local to the site.
WITH departures AS (
  SELECT order_id, order_line, gate_out_at AS left_at, CAST(sum(shipped_quantity) AS DECIMAL(18, 3)) AS quantity
  FROM delivery_steps
  WHERE gate_out_at IS NOT NULL AND shipped_quantity IS NOT NULL
  GROUP BY order_id, order_line, gate_out_at
), left_by AS (
  SELECT d.order_id, d.order_line, d.left_at, CAST(sum(earlier.quantity) AS DECIMAL(18, 3)) AS quantity
  FROM departures AS d
  JOIN departures AS earlier
    ON earlier.order_id = d.order_id AND earlier.order_line = d.order_line AND earlier.left_at <= d.left_at
  GROUP BY d.order_id, d.order_line, d.left_at
), gone AS (
  SELECT o.order_id, o.order_line, min(l.left_at) AS gone_out_at
  FROM order_lines AS o
  JOIN left_by AS l ON l.order_id = o.order_id AND l.order_line = o.order_line AND l.quantity >= o.quantity
  GROUP BY o.order_id, o.order_line
), dated AS (
  SELECT
    o.order_id, o.order_line, o.customer_id, o.site, o.sku, o.quantity AS ordered_quantity, o.uom, o.released_at,
    sla_deadline(o.released_at, s.cutoff, s.closes_at, s.time_zone, s.working_days, s.holidays, s.dispatch_days) AS deadline,
    s.time_zone
  FROM order_lines AS o
  LEFT JOIN sites AS s ON s.site = o.site
  WHERE NOT EXISTS (
    SELECT 1
    FROM events AS c
    WHERE c.event_type = 'order.cancelled' AND c.order_id = o.order_id AND c.order_line = o.order_line
  )
)
SELECT
  d.order_id, d.order_line, d.customer_id, d.site, d.sku, d.ordered_quantity, d.uom, d.released_at, d.deadline,
  local_date(d.deadline, d.time_zone) AS deadline_day,
  g.gone_out_at,
  coalesce(d.deadline < watermark(), false) AS deadline_passed,
  coalesce(g.gone_out_at <= d.deadline, false) AS on_time
FROM dated AS d
LEFT JOIN gone AS g ON g.order_id = d.order_id AND g.order_line = d.order_line
