-- verdicts: may this delivery line be invoiced, for which quantity and amount?
-- Grain: one row per delivery line that is judged (failed_checks says when). Units: quantity in uom; amount in currency,
-- rounded half up to its minor unit. Owner: order-to-cash team.
--
-- verdict:
--   validated   no check fails
--   blocked     a check fails; when an event or a change of master data removes the reason, this ends by itself
--   released    a person decided that it goes out all the same, for the accepted quantity or the one they say
--   rejected    a person decided that it does not
-- A decision stands, whatever the checks say later; a release needs a known order line, for there is no price without one.
-- quantity is what is or would be billed: what was accepted, and what was shipped as long as the proof is missing. Without
-- proof a release rests on the gate-out.
WITH reasons AS (
  SELECT
    f.trigger_key,
    array_agg(f.reason ORDER BY f.reason) AS reasons,
    min(f.since + r.due_after) AS due_at,
    bool_or(coalesce(r.queue, 'operations') = 'operations') AS concerns_operations
  FROM failed_checks AS f
  LEFT JOIN exception_reasons AS r ON r.reason = f.reason
  GROUP BY f.trigger_key
), decided AS (
  SELECT
    d.*,
    r.reasons, r.due_at, r.concerns_operations,
    n.resolution, n.resolved_by, n.decided_at, n.event_id AS decision_event_id,
    CASE
      WHEN n.resolution = 'reject' THEN 'rejected'
      WHEN n.resolution IS NOT NULL AND d.order_line_known AND d.customer_known THEN 'released'
      WHEN r.reasons IS NULL THEN 'validated'
      ELSE 'blocked'
    END AS verdict,
    CASE
      WHEN n.resolution = 'release_with_quantity' THEN coalesce(n.quantity, d.accepted_quantity, d.shipped_quantity)
      ELSE coalesce(d.accepted_quantity, d.shipped_quantity)
    END AS quantity
  FROM delivery_lines AS d
  LEFT JOIN reasons AS r ON r.trigger_key = d.trigger_key
  LEFT JOIN decisions AS n ON n.trigger_key = d.trigger_key
  WHERE d.basis IS NOT NULL OR d.pod_overdue
)
SELECT
  trigger_key, shipment_id, order_id, order_line, customer_id, bill_to, terms, site, sku,
  verdict, reasons, concerns_operations, due_at, resolution, resolved_by, decided_at, decision_event_id,
  coalesce(basis_at, pod_due_at) AS since, coalesce(basis, 'gate_out') AS basis, coalesce(basis_at, gate_out_at) AS basis_at,
  gate_out_at, gate_out_event_id, proof_at, CASE WHEN basis = 'pod' THEN proof_event_id END AS proof_event_id,
  ordered_quantity, shipped_quantity, delivered_quantity, damaged_quantity, refused_quantity, accepted_quantity,
  quantity, uom, unit_price, price_per,
  round_money(quantity * unit_price / CAST(price_per AS DECIMAL(10, 0)), currency) AS amount,
  currency
FROM decided
