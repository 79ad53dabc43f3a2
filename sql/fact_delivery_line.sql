-- fact_delivery_line: one row a delivery line with all its times, quantities and durations, for percentiles at any grain.
-- Grain: one row per delivery line, trigger_key. Units: quantities in uom; amount and invoiced_amount in currency; durations
-- in whole seconds, null where either end is missing, negative where the order of the steps was another.
-- Owner: order-to-cash team.
--
-- Ordered and picked are those of the whole order line. Master data as they are NOW.
SELECT
  s.trigger_key, s.shipment_id, s.order_id, s.order_line, s.customer_id, s.site, s.sku, s.carrier_id, s.state, s.basis,
  d.requested_at, d.promised_at, s.released_at, s.allocated_at, s.picked_at, s.dispatched_at, s.dispatch_due_at, s.gate_out_at,
  s.arrived_at, s.last_failed_at, s.proof_at, s.basis_at, s.invoiced_at, s.returned_at,
  s.failed_deliveries, d.proofs,
  s.ordered_quantity, s.picked_quantity, s.shipped_quantity, s.delivered_quantity, s.damaged_quantity, s.refused_quantity,
  s.accepted_quantity, s.uom, s.amount, s.currency, i.amount AS invoiced_amount, i.document_id AS invoice_document_id,
  to_unixtime(s.picked_at) - to_unixtime(s.released_at) AS release_to_pick_seconds,
  to_unixtime(s.gate_out_at) - to_unixtime(s.released_at) AS release_to_gate_out_seconds,
  to_unixtime(s.gate_out_at) - to_unixtime(s.dispatched_at) AS dispatch_to_gate_out_seconds,
  to_unixtime(coalesce(s.arrived_at, s.proof_at)) - to_unixtime(s.gate_out_at) AS gate_out_to_delivery_seconds,
  to_unixtime(coalesce(s.arrived_at, s.proof_at)) - to_unixtime(d.promised_at) AS promise_to_delivery_seconds,
  to_unixtime(s.proof_at) - to_unixtime(coalesce(s.arrived_at, s.proof_at)) AS delivery_to_proof_seconds,
  to_unixtime(s.invoiced_at) - to_unixtime(s.proof_at) AS proof_to_posting_seconds,
  to_unixtime(s.invoiced_at) - to_unixtime(coalesce(s.arrived_at, s.proof_at)) AS delivery_to_posting_seconds
FROM shipment_state AS s
JOIN delivery_lines AS d ON d.trigger_key = s.trigger_key
LEFT JOIN invoices AS i ON i.trigger_key = s.trigger_key
