-- delivery_milestones: which events are about which delivery line.
-- Grain: one row per delivery line and event. Units: quantities in uom. Owner: order-to-cash team.
--
-- A milestone of a shipment applies to all its lines; one of a line overrides those of the same type for that line.
WITH steps AS (
  SELECT *
  FROM events
  WHERE event_type IN ('dispatch.assigned', 'gate.out', 'delivery.arrived', 'delivery.failed', 'pod.received')
)
SELECT
  k.trigger_key, s.event_id, s.event_type, s.occurred_at, s.recorded_at, s.carrier_id, s.sku,
  s.quantity, s.damaged_quantity, s.refused_quantity, s.signed_by, s.document_id, s.ref_event_id
FROM steps AS s
JOIN delivery_line_keys AS k
  ON k.shipment_id = s.shipment_id
  AND k.order_id = coalesce(s.order_id, '') AND k.order_line = coalesce(s.order_line, '')
UNION ALL
SELECT
  k.trigger_key, s.event_id, s.event_type, s.occurred_at, s.recorded_at, s.carrier_id, s.sku,
  s.quantity, s.damaged_quantity, s.refused_quantity, s.signed_by, s.document_id, s.ref_event_id
FROM steps AS s
JOIN delivery_line_keys AS k ON k.shipment_id = s.shipment_id
WHERE s.order_id IS NULL AND s.order_line IS NULL
  AND (k.order_id <> '' OR k.order_line <> '')
  AND NOT EXISTS (
    SELECT 1
    FROM steps AS own
    WHERE own.event_type = s.event_type AND own.shipment_id = k.shipment_id
      AND own.order_id = k.order_id AND own.order_line = k.order_line
  )
