-- delivery_steps: the way of a delivery line as its events tell it, without master data.
-- Grain: one row per delivery line. Units: quantities in the order line's uom. Owner: order-to-cash team.
--
-- Of several proofs that stand the last in time counts (recorded_at breaks ties, then event_id does).
WITH steps AS (
  SELECT
    trigger_key,
    min(occurred_at) FILTER (WHERE event_type = 'gate.out') AS gate_out_at,
    first_value(event_id ORDER BY occurred_at, recorded_at, event_id)
      FILTER (WHERE event_type = 'gate.out') AS gate_out_event_id,
    last_value(carrier_id ORDER BY occurred_at, recorded_at, event_id)
      FILTER (WHERE carrier_id IS NOT NULL) AS carrier_id,
    max(occurred_at) FILTER (WHERE event_type = 'delivery.arrived') AS arrived_at,
    min(occurred_at) FILTER (WHERE event_type = 'delivery.failed') AS first_failed_at,
    max(occurred_at) FILTER (WHERE event_type = 'delivery.failed') AS last_failed_at,
    count(*) FILTER (WHERE event_type = 'delivery.failed') AS failed_deliveries
  FROM delivery_milestones
  GROUP BY trigger_key
), proved AS (
  SELECT
    trigger_key,
    count(*) AS proofs,
    min(occurred_at) AS first_proof_at,
    last_value(occurred_at ORDER BY occurred_at, recorded_at, event_id) AS proof_at,
    last_value(event_id ORDER BY occurred_at, recorded_at, event_id) AS proof_event_id,
    last_value(sku ORDER BY occurred_at, recorded_at, event_id) AS proof_sku,
    last_value(signed_by ORDER BY occurred_at, recorded_at, event_id) AS signed_by,
    last_value(delivered_quantity ORDER BY occurred_at, recorded_at, event_id) AS delivered_quantity,
    last_value(damaged_quantity ORDER BY occurred_at, recorded_at, event_id) AS damaged_quantity,
    last_value(refused_quantity ORDER BY occurred_at, recorded_at, event_id) AS refused_quantity,
    min(delivered_quantity) <> max(delivered_quantity)
      OR min(damaged_quantity) <> max(damaged_quantity)
      OR min(refused_quantity) <> max(refused_quantity) AS proofs_differ,
    bool_and(delivered_quantity = shipped_quantity AND damaged_quantity = 0 AND refused_quantity = 0) AS proofs_clean
  FROM proofs
  GROUP BY trigger_key
)
SELECT
  k.trigger_key, k.shipment_id, k.order_id, k.order_line, s.carrier_id,
  c.shipped_quantity, c.dispatched_at, c.first_sku AS first_shipped_sku, c.last_sku AS last_shipped_sku,
  s.gate_out_at, s.gate_out_event_id, s.arrived_at, s.first_failed_at, s.last_failed_at, s.failed_deliveries,
  coalesce(p.proofs, 0) AS proofs, p.first_proof_at, p.proof_at, p.proof_event_id, p.proof_sku, p.signed_by,
  p.delivered_quantity, p.damaged_quantity, p.refused_quantity,
  coalesce(p.proofs_differ, false) AS proofs_differ, coalesce(p.proofs_clean, true) AS proofs_clean
FROM delivery_line_keys AS k
LEFT JOIN shipment_contents AS c ON c.trigger_key = k.trigger_key
LEFT JOIN steps AS s ON s.trigger_key = k.trigger_key
LEFT JOIN proved AS p ON p.trigger_key = k.trigger_key
