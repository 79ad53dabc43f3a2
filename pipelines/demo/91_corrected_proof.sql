-- title: the corrected proof
-- The proof that the delivery of the story waits for: a clean receipt of what was shipped, an hour after the proof that
-- stands, which it names as corrected. One row; its columns are the fields of the event.
SELECT
  concat('demo-', p.event_id) AS event_id, 'pod.received' AS event_type, 'ACT' AS classifier,
  p.occurred_at + INTERVAL '1 hour' AS occurred_at, p.occurred_at + INTERVAL '1 hour' AS recorded_at,
  'demo' AS source_system, s.order_id, s.order_line, s.shipment_id,
  CAST(s.shipped_quantity AS DOUBLE) AS quantity, coalesce(p.signed_by, 'goods in') AS signed_by,
  p.event_id AS ref_event_id
FROM story AS t
JOIN shipment_state AS s ON s.trigger_key = t.trigger_key
JOIN proofs AS p ON p.trigger_key = t.trigger_key
ORDER BY occurred_at DESC, ref_event_id
LIMIT 1
