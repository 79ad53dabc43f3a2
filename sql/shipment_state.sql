-- shipment_state: where every delivery line stands: one truth for planner, dispatcher, warehouse and finance.
-- Grain: one row per delivery line, trigger_key; an order line that no shipment holds yet is one row with an empty shipment.
-- Units: quantities in uom; amount in currency. ordered, allocated and picked are those of the whole order line, the rest are
-- those of the delivery line. Owner: order-to-cash team.
--
-- state, the first that holds: cancelled (before anything left), returned, invoiced, exception, ready_to_invoice, delivered,
-- in_transit, dispatched, picked, allocated, released. A line that a person rejected stays where its goods are.
-- overdue lists what should have happened: dispatch (site's deadline), delivery (promised plus the customer's tolerance),
-- proof, exception (its due time). waiting_for is the milestone that comes next, null if none.
WITH lines AS (
  SELECT trigger_key, shipment_id, order_id, order_line
  FROM delivery_line_keys
  UNION ALL
  SELECT '/' || percent_encode(s.order_id) || '/' || percent_encode(s.order_line), '', s.order_id, s.order_line
  FROM order_line_steps AS s
  WHERE NOT EXISTS (SELECT 1 FROM delivery_line_keys AS k WHERE k.order_id = s.order_id AND k.order_line = s.order_line)
), returns AS (
  SELECT
    l.trigger_key,
    min(e.occurred_at) FILTER (WHERE e.event_type = 'return.initiated') AS return_initiated_at,
    min(e.occurred_at) FILTER (WHERE e.event_type = 'return.received') AS returned_at
  FROM lines AS l
  JOIN events AS e
    ON e.order_id = l.order_id AND e.order_line = l.order_line
    AND (e.shipment_id IS NULL OR e.shipment_id = l.shipment_id)
  WHERE e.event_type IN ('return.initiated', 'return.received')
  GROUP BY l.trigger_key
), joined AS (
  SELECT
    l.trigger_key, l.shipment_id, l.order_id, l.order_line,
    o.customer_id, o.site, o.sku, o.uom, d.carrier_id,
    o.released_at, w.allocated_at, w.picked_at, w.cancelled_at,
    d.dispatched_at, d.gate_out_at, d.arrived_at, d.last_failed_at, coalesce(d.failed_deliveries, 0) AS failed_deliveries,
    d.proof_at, d.basis, d.basis_at, i.posted_at AS invoiced_at, r.return_initiated_at, r.returned_at,
    t.deadline AS dispatch_due_at, d.delivery_due_at, d.pod_due_at, v.due_at AS exception_due_at,
    o.quantity AS ordered_quantity, w.allocated_quantity, w.picked_quantity,
    d.shipped_quantity, d.delivered_quantity, d.damaged_quantity, d.refused_quantity, d.accepted_quantity,
    v.amount, o.currency, v.verdict, v.reasons,
    coalesce(d.pod_overdue, false) AS pod_overdue,
    CASE
      WHEN w.cancelled_at IS NOT NULL AND d.gate_out_at IS NULL THEN 'cancelled'
      WHEN r.returned_at IS NOT NULL THEN 'returned'
      WHEN i.posted_at IS NOT NULL THEN 'invoiced'
      WHEN v.verdict = 'blocked' THEN 'exception'
      WHEN v.verdict IN ('validated', 'released') THEN 'ready_to_invoice'
      WHEN coalesce(d.arrived_at, d.proof_at) IS NOT NULL THEN 'delivered'
      WHEN d.gate_out_at IS NOT NULL THEN 'in_transit'
      WHEN l.shipment_id <> '' THEN 'dispatched'
      WHEN w.picked_at IS NOT NULL THEN 'picked'
      WHEN w.allocated_at IS NOT NULL THEN 'allocated'
      ELSE 'released'
    END AS state
  FROM lines AS l
  LEFT JOIN order_lines AS o ON o.order_id = l.order_id AND o.order_line = l.order_line
  LEFT JOIN order_line_steps AS w ON w.order_id = l.order_id AND w.order_line = l.order_line
  LEFT JOIN order_line_dispatch AS t ON t.order_id = l.order_id AND t.order_line = l.order_line
  LEFT JOIN delivery_lines AS d ON d.trigger_key = l.trigger_key
  LEFT JOIN verdicts AS v ON v.trigger_key = l.trigger_key
  LEFT JOIN invoices AS i ON i.trigger_key = l.trigger_key
  LEFT JOIN returns AS r ON r.trigger_key = l.trigger_key
)
SELECT
  trigger_key, shipment_id, order_id, order_line, customer_id, site, sku, carrier_id, state,
  CASE
    WHEN state IN ('cancelled', 'returned') OR verdict = 'rejected' THEN NULL
    WHEN state = 'invoiced' THEN 'payment.received'
    WHEN state = 'ready_to_invoice' THEN 'invoice.posted'
    WHEN state = 'exception' AND pod_overdue THEN 'pod.received'
    WHEN state = 'exception' THEN 'exception.resolved'
    WHEN state IN ('delivered', 'in_transit') THEN 'pod.received'
    WHEN state = 'dispatched' THEN 'gate.out'
    WHEN state = 'picked' THEN 'dispatch.assigned'
    ELSE 'pick.confirmed'
  END AS waiting_for,
  CASE WHEN state NOT IN ('cancelled', 'returned', 'invoiced') THEN nullif(concat_ws(
    ', ',
    CASE WHEN gate_out_at IS NULL AND proof_at IS NULL AND dispatch_due_at < watermark() THEN 'dispatch' END,
    CASE WHEN arrived_at IS NULL AND proof_at IS NULL AND delivery_due_at < watermark() THEN 'delivery' END,
    CASE WHEN pod_overdue THEN 'proof' END,
    CASE WHEN state = 'exception' AND exception_due_at < watermark() THEN 'exception' END
  ), '') END AS overdue,
  reasons, basis,
  released_at, allocated_at, picked_at, dispatched_at, gate_out_at, arrived_at, failed_deliveries, last_failed_at,
  proof_at, basis_at, invoiced_at, return_initiated_at, returned_at, cancelled_at,
  dispatch_due_at, delivery_due_at, pod_due_at, exception_due_at,
  ordered_quantity, allocated_quantity, picked_quantity, shipped_quantity, delivered_quantity, damaged_quantity,
  refused_quantity, accepted_quantity, uom, amount, currency
FROM joined
