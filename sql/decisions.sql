-- decisions: what a person decided on an exception. Of several decisions the last counts.
-- Grain: one row per trigger_key. Units: quantity in the order line's uom. Owner: order-to-cash team.
SELECT
  trigger_key,
  last_value(event_id ORDER BY occurred_at, recorded_at, event_id) AS event_id,
  last_value(resolution ORDER BY occurred_at, recorded_at, event_id) AS resolution,
  last_value(quantity ORDER BY occurred_at, recorded_at, event_id) AS quantity,
  last_value(resolved_by ORDER BY occurred_at, recorded_at, event_id) AS resolved_by,
  max(occurred_at) AS decided_at
FROM events
WHERE event_type = 'exception.resolved'
GROUP BY trigger_key
