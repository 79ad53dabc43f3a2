-- title: one blocked delivery
-- The most telling one: with the most reasons among those that operations must solve, then the most money; ties by key.
WITH picked AS (
  SELECT *
  FROM invoice_exceptions
  WHERE queue = 'operations' AND shipped_quantity IS NOT NULL AND delivered_quantity IS NOT NULL AND amount_blocked > 0
  ORDER BY array_length(reasons) DESC, amount_blocked DESC, trigger_key
  LIMIT 1
), meanings AS (
  SELECT string_agg(r.meaning, '; ' ORDER BY r.reason) AS why
  FROM (SELECT unnest(reasons) AS reason FROM picked) AS p
  JOIN exception_reasons AS r ON r.reason = p.reason
), numbers AS (
  SELECT
    p.*, m.why, s.gate_out_at, s.proof_at,
    regexp_replace(CAST(p.ordered_quantity AS VARCHAR), '\.?0+$', '') AS ordered,
    regexp_replace(CAST(p.shipped_quantity AS VARCHAR), '\.?0+$', '') AS shipped,
    regexp_replace(CAST(p.delivered_quantity AS VARCHAR), '\.?0+$', '') AS delivered,
    regexp_replace(CAST(p.damaged_quantity AS VARCHAR), '\.?0+$', '') AS damaged,
    regexp_replace(CAST(p.refused_quantity AS VARCHAR), '\.?0+$', '') AS refused
  FROM picked AS p
  CROSS JOIN meanings AS m
  JOIN shipment_state AS s ON s.trigger_key = p.trigger_key
)
SELECT concat(
  'Order ', order_id, ', line ', order_line, ', for ', customer_id, ': ', ordered, ' ', uom, ' of ', sku, ' ordered. ',
  'Shipment ', shipment_id, ' left ', site, ' with ', shipped, ' on ', to_char(gate_out_at, '%Y-%m-%d %H:%M'), ' UTC; ',
  'the proof of ', to_char(proof_at, '%Y-%m-%d %H:%M'), ' says ', delivered, ' delivered',
  CASE WHEN damaged_quantity > 0 THEN concat(', ', damaged, ' of them damaged') ELSE '' END,
  CASE WHEN refused_quantity > 0 THEN concat(', ', refused, ' refused') ELSE '' END,
  '. It is blocked because ', why, ' (', array_to_string(reasons, ', '), '). ',
  upper(substr(queue, 1, 1)), substr(queue, 2), ' must act by ', to_char(due_at, '%Y-%m-%d %H:%M'), ' UTC; ',
  regexp_replace(CAST(amount_blocked AS VARCHAR), '0$', ''), ' ', currency, ' wait.'
) AS story,
  trigger_key
FROM numbers
