-- proofs: the proofs of delivery that stand, with what each of them says in quantities.
-- Grain: one row per delivery line and proof. Units: quantities in the order line's uom. Owner: order-to-cash team.
--
-- A proof that another one of the same delivery line names in ref_event_id is corrected and no longer stands. A proof
-- without a quantity is a clean receipt of what was shipped; a quantity of zero is zero.
SELECT
  p.trigger_key, p.event_id, p.occurred_at, p.recorded_at, p.sku, p.signed_by,
  CAST(coalesce(p.quantity, c.shipped_quantity, 0) AS DECIMAL(18, 3)) AS delivered_quantity,
  CAST(coalesce(p.damaged_quantity, 0) AS DECIMAL(18, 3)) AS damaged_quantity,
  CAST(coalesce(p.refused_quantity, 0) AS DECIMAL(18, 3)) AS refused_quantity,
  c.shipped_quantity
FROM delivery_milestones AS p
LEFT JOIN shipment_contents AS c ON c.trigger_key = p.trigger_key
WHERE p.event_type = 'pod.received'
  AND NOT EXISTS (
    SELECT 1
    FROM delivery_milestones AS correction
    WHERE correction.event_type = 'pod.received' AND correction.trigger_key = p.trigger_key
      AND correction.ref_event_id = p.event_id AND correction.event_id <> p.event_id
  )
