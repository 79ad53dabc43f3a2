-- invoices: the invoice of a delivery line: the first posted one that was not cancelled.
-- Grain: one row per trigger_key. Units: amount in currency. Owner: finance team.
--
-- A posting names the trigger, or shipment, order and line. One that names an order only cannot be told apart by delivery
-- line and is left out here.
WITH posted AS (
  SELECT
    coalesce(
      p.trigger_key,
      percent_encode(p.shipment_id) || '/' || percent_encode(p.order_id) || '/' || percent_encode(p.order_line)
    ) AS trigger_key,
    p.event_id, p.occurred_at, p.recorded_at, p.document_id, p.quantity, p.amount, p.currency
  FROM events AS p
  WHERE p.event_type = 'invoice.posted'
    AND NOT EXISTS (
      SELECT 1 FROM events AS c WHERE c.event_type = 'invoice.cancelled' AND c.document_id = p.document_id
    )
)
SELECT
  trigger_key,
  min(occurred_at) AS posted_at,
  first_value(event_id ORDER BY occurred_at, recorded_at, event_id) AS event_id,
  first_value(document_id ORDER BY occurred_at, recorded_at, event_id) AS document_id,
  first_value(quantity ORDER BY occurred_at, recorded_at, event_id) AS quantity,
  first_value(amount ORDER BY occurred_at, recorded_at, event_id) AS amount,
  first_value(currency ORDER BY occurred_at, recorded_at, event_id) AS currency,
  count(*) AS postings
FROM posted
WHERE trigger_key IS NOT NULL
GROUP BY trigger_key
