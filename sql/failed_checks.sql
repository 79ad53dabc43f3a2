-- failed_checks: every check that a delivery line fails, not only the first. To add a check, add a SELECT.
-- Grain: one row per delivery line and reason. Units: since is the moment from which the line is judged.
-- Owner: order-to-cash team.
--
-- Judged is a line that has a basis, or whose proof is overdue; checks of a proof need the proof as basis. Tolerances are
-- the customer's as they are NOW. Not here yet: PRICE_VARIANCE, CURRENCY_MISMATCH (they need the price list as it stood) and
-- ALREADY_INVOICED.
WITH judged AS (
  SELECT *, coalesce(basis_at, pod_due_at) AS since
  FROM delivery_lines
  WHERE basis IS NOT NULL OR pod_overdue
), proved AS (
  SELECT *, basis_at AS since
  FROM delivery_lines
  WHERE basis = 'pod'
), accepted AS (
  SELECT order_id, order_line, CAST(sum(accepted_quantity) AS DECIMAL(18, 3)) AS accepted_quantity
  FROM delivery_lines
  WHERE basis IS NOT NULL
  GROUP BY order_id, order_line
)
SELECT trigger_key, 'POD_UNMATCHED_REF' AS reason, since
FROM judged
WHERE shipped_quantity IS NULL OR NOT order_line_known OR NOT customer_known
UNION ALL
SELECT trigger_key, 'POD_OVERDUE', since
FROM judged
WHERE pod_overdue
UNION ALL
SELECT trigger_key, 'POD_EVIDENCE_INCOMPLETE', since
FROM proved
WHERE requires_signature AND coalesce(signed_by, '') = ''
UNION ALL
SELECT trigger_key, 'QTY_SHORT', since
FROM proved
WHERE delivered_quantity < shipped_quantity
  AND NOT within_tolerance(delivered_quantity, shipped_quantity, under_pct, over_pct, under_abs, over_abs)
UNION ALL
SELECT trigger_key, 'QTY_OVER', since
FROM proved
WHERE delivered_quantity > shipped_quantity
  AND NOT within_tolerance(delivered_quantity, shipped_quantity, under_pct, over_pct, under_abs, over_abs)
UNION ALL
-- Accepted over all shipments of the order line: each of its delivery lines is held, whichever went too far.
SELECT j.trigger_key, 'OVER_ORDER', j.since
FROM judged AS j
JOIN accepted AS a ON a.order_id = j.order_id AND a.order_line = j.order_line
WHERE a.accepted_quantity > j.ordered_quantity
  AND NOT within_tolerance(a.accepted_quantity, j.ordered_quantity, j.under_pct, j.over_pct, j.under_abs, j.over_abs)
UNION ALL
SELECT trigger_key, 'DAMAGED', since
FROM proved
WHERE damaged_quantity > 0
UNION ALL
SELECT trigger_key, 'REFUSED', since
FROM proved
WHERE refused_quantity > 0
UNION ALL
SELECT trigger_key, 'TERMS_MISSING', since
FROM judged
WHERE customer_known AND coalesce(terms, '') = ''
UNION ALL
SELECT trigger_key, 'CREDIT_HOLD', since
FROM judged
WHERE credit_hold
UNION ALL
SELECT trigger_key, 'BILLING_BLOCK', since
FROM judged
WHERE billing_block
UNION ALL
-- A second proof with other quantities that does not name the first; proofs that were corrected no longer stand.
SELECT trigger_key, 'POD_AMENDED', since
FROM proved
WHERE proofs_differ
UNION ALL
-- Proof before gate-out; a proof of what never left counts as such. Or later than the clock, which is the watermark plus
-- the lateness of the source milestones (1 hour in pipelines/order_to_invoice.yaml).
SELECT trigger_key, 'SEQUENCE_VIOLATION', since
FROM proved
WHERE gate_out_at IS NULL OR proof_at < gate_out_at OR proof_at - INTERVAL '1 hour' > watermark()
UNION ALL
SELECT trigger_key, 'WRONG_ITEM', since
FROM judged
WHERE first_shipped_sku <> sku OR last_shipped_sku <> sku OR (basis = 'pod' AND proof_sku <> sku)
