-- invoice_exceptions: why a delivery line may not be invoiced, who has to act, by when, and how much money waits.
-- Grain: one row per delivery line that is blocked, trigger_key. Units: quantities in uom; amount_blocked in currency, rounded
-- half up to its minor unit, null where no order line gives a price. Owner: order-to-cash team.
--
-- It is live: the row goes when an event or a change of master data removes its reasons, or when a person decides.
-- reasons are in alphabetical order. queue is operations if any of them is operations' to solve, for the facts come
-- before the terms; queues and due times by reason are in pipelines/reference/exception_reasons.csv. opened_at is the moment
-- from which the line is judged, also for a hold: since when master data say so is not known without history tables.
SELECT
  trigger_key, shipment_id, order_id, order_line, customer_id, site, sku,
  reasons,
  CASE WHEN concerns_operations THEN 'operations' ELSE 'finance' END AS queue,
  since AS opened_at,
  due_at,
  ordered_quantity, shipped_quantity, delivered_quantity, damaged_quantity, refused_quantity, accepted_quantity, uom,
  amount AS amount_blocked, currency
FROM verdicts
WHERE verdict = 'blocked'
