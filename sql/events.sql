-- events: what actually happened and still stands. Every other job reads events here, so that no other file repeats the rule.
-- Grain: one row per event_id. Units: quantities in uom; amount in currency. Owner: order-to-cash team.
--
-- Estimates and plans are no facts. A retracted event counts as if it had never come, whether the retraction arrives
-- before or after it; a retraction is final, so that retracting a retraction changes nothing.
-- recorded_at, which breaks ties, is occurred_at where the source system did not say.
SELECT
  m.event_id, m.event_type, m.occurred_at, coalesce(m.recorded_at, m.occurred_at) AS recorded_at, m.source_system,
  m.order_id, m.order_line, m.shipment_id, m.handling_unit_id, m.customer_id, m.carrier_id, m.site,
  m.sku, m.lot, m.owner_id, m.stock_type, m.quantity, m.damaged_quantity, m.refused_quantity, m.uom,
  m.amount, m.currency, m.document_id, m.document_line, m.signed_by, m.reason_code,
  m.trigger_key, m.trigger_id, m.resolution, m.resolved_by, m.ref_event_id
FROM milestones AS m
WHERE m.classifier = 'ACT'
  AND m.event_type <> 'event.retracted'
  AND NOT EXISTS (
    SELECT 1
    FROM milestones AS r
    WHERE r.event_type = 'event.retracted' AND r.classifier = 'ACT' AND r.ref_event_id = m.event_id
  )
