-- delivery_lines: each delivery line with its master data, the basis on which it may be invoiced, and since when.
-- Grain: one row per delivery line. Units: quantities in uom; prices in currency per price_per units.
-- Owner: order-to-cash team.
--
-- Master data (order line, customer) are judged as they are NOW, not as they stood when the goods moved: a hold that is
-- set today blocks yesterday's delivery too, and one that is lifted lets it go. As they stood comes with history tables.
--
-- basis, the first that holds:
--   gate_out         the customer requires no proof, and the goods have left
--   auto_confirmed   auto_confirm_after the first gate-out passed with neither a proof nor a failed delivery up to then;
--                    an equal proof that comes later changes nothing, one with other quantities is judged as a proof
--   pod              there is a proof
-- basis_at is the moment of that. A line is judged (failed_checks) once it has a basis, or once its proof is overdue.
WITH known AS (
  SELECT
    s.*,
    o.customer_id, o.site, o.sku, o.uom, o.quantity AS ordered_quantity, o.unit_price, o.price_per, o.currency,
    o.released_at, o.requested_at, o.promised_at,
    o.order_id IS NOT NULL AS order_line_known,
    c.customer_id IS NOT NULL AS customer_known,
    c.bill_to, c.terms, c.credit_hold, c.billing_block, c.requires_signature,
    c.under_pct, c.over_pct, c.under_abs, c.over_abs,
    coalesce(c.requires_pod, true) AS requires_pod,
    CASE WHEN c.requires_pod THEN s.gate_out_at + c.pod_due_after END AS pod_due_at,
    CASE WHEN c.requires_pod THEN s.gate_out_at + c.auto_confirm_after END AS auto_confirm_at,
    o.promised_at + coalesce(c.late_tolerance, INTERVAL '0 seconds') AS delivery_due_at
  FROM delivery_steps AS s
  LEFT JOIN order_lines AS o ON o.order_id = s.order_id AND o.order_line = s.order_line
  LEFT JOIN customers AS c ON c.customer_id = o.customer_id
), based AS (
  SELECT
    *,
    CASE
      WHEN NOT requires_pod AND gate_out_at IS NOT NULL THEN 'gate_out'
      WHEN auto_confirm_at < watermark()
        AND (first_failed_at IS NULL OR first_failed_at > auto_confirm_at)
        AND (first_proof_at IS NULL OR first_proof_at > auto_confirm_at)
        AND proofs_clean THEN 'auto_confirmed'
      WHEN proof_at IS NOT NULL THEN 'pod'
    END AS basis
  FROM known
)
SELECT
  trigger_key, shipment_id, order_id, order_line, customer_id, site, sku, uom, carrier_id,
  order_line_known, customer_known,
  bill_to, terms, credit_hold, billing_block, requires_pod, requires_signature,
  under_pct, over_pct, under_abs, over_abs,
  unit_price, price_per, currency,
  ordered_quantity, shipped_quantity, delivered_quantity, damaged_quantity, refused_quantity,
  CASE
    WHEN basis = 'pod' THEN CAST(delivered_quantity - damaged_quantity - refused_quantity AS DECIMAL(18, 3))
    WHEN basis IS NOT NULL THEN shipped_quantity
  END AS accepted_quantity,
  released_at, requested_at, promised_at, delivery_due_at, dispatched_at, gate_out_at, gate_out_event_id,
  arrived_at, first_failed_at, last_failed_at, failed_deliveries,
  proofs, proof_at, proof_event_id, proof_sku, signed_by, proofs_differ, first_shipped_sku, last_shipped_sku,
  pod_due_at, auto_confirm_at, basis,
  CASE basis WHEN 'gate_out' THEN gate_out_at WHEN 'auto_confirmed' THEN auto_confirm_at WHEN 'pod' THEN proof_at END AS basis_at,
  coalesce(basis IS NULL AND pod_due_at < watermark(), false) AS pod_overdue
FROM based
