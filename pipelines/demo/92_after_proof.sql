-- title: the delivery now
SELECT
  s.state, s.shipped_quantity AS shipped, s.delivered_quantity AS delivered,
  t.quantity AS to_invoice, t.amount, t.currency, (SELECT count(*) FROM invoice_exceptions WHERE trigger_key = {trigger_key}) AS exceptions
FROM shipment_state AS s
LEFT JOIN invoice_triggers AS t ON t.trigger_key = s.trigger_key
WHERE s.trigger_key = {trigger_key}
