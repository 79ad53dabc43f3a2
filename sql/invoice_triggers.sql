-- invoice_triggers: this delivery line may be invoiced, for this quantity, for this amount.
-- Grain: one row per delivery line, trigger_key. Units: quantity in uom; unit_price in currency per price_per units; amount in
-- currency, rounded half up to its minor unit. Owner: order-to-cash team.
--
-- Judged by master data as they are NOW (delivery_lines.sql): a trigger can go again when terms or holds change. That a
-- published trigger outlives such a change, and its life after invoicing, come with history tables; until then invoicing
-- must look at revocations on the stream.
-- service_date is the site's local day of the basis: proof, gate-out or automatic confirmation. event_ids are the events
-- that the trigger rests on: the assignments to the shipment, the first gate-out, the proof or the decision.
WITH evidence AS (
  SELECT v.trigger_key, m.occurred_at, m.event_id
  FROM verdicts AS v
  JOIN delivery_milestones AS m ON m.trigger_key = v.trigger_key
  WHERE m.event_type = 'dispatch.assigned' OR m.event_id = v.gate_out_event_id OR m.event_id = v.proof_event_id
  UNION ALL
  SELECT trigger_key, decided_at, decision_event_id
  FROM verdicts
  WHERE decision_event_id IS NOT NULL
), rests_on AS (
  SELECT trigger_key, array_agg(event_id ORDER BY occurred_at, event_id) AS event_ids
  FROM evidence
  GROUP BY trigger_key
)
SELECT
  v.trigger_key, v.shipment_id, v.order_id, v.order_line, v.customer_id, v.bill_to, v.terms, v.site, v.sku,
  v.basis, v.basis_at,
  local_date(v.basis_at, coalesce(s.time_zone, 'UTC')) AS service_date,
  v.quantity, v.uom, v.unit_price, v.price_per, v.amount, v.currency,
  v.resolution, v.resolved_by, e.event_ids
FROM verdicts AS v
LEFT JOIN sites AS s ON s.site = v.site
LEFT JOIN rests_on AS e ON e.trigger_key = v.trigger_key
WHERE v.verdict IN ('validated', 'released')
