-- delivery_line_keys: every delivery line that anybody has spoken of: assigned to a shipment, or proved to be delivered.
-- Grain: one row per delivery line (shipment, order, line), named by trigger_key. Owner: order-to-cash team.
--
-- trigger_key is shipment, order and line, each percent-encoded, joined by `/`; a part that is unknown is empty. A proof
-- of a whole shipment of which no contents are known is a delivery line without order and line.
WITH assigned AS (
  SELECT shipment_id, order_id, order_line
  FROM events
  WHERE event_type = 'dispatch.assigned'
), proved AS (
  SELECT shipment_id, coalesce(order_id, '') AS order_id, coalesce(order_line, '') AS order_line
  FROM events
  WHERE event_type = 'pod.received' AND (order_id IS NOT NULL OR order_line IS NOT NULL)
), proved_unknown AS (
  SELECT e.shipment_id, '' AS order_id, '' AS order_line
  FROM events AS e
  WHERE e.event_type = 'pod.received' AND e.order_id IS NULL AND e.order_line IS NULL
    AND NOT EXISTS (SELECT 1 FROM assigned AS a WHERE a.shipment_id = e.shipment_id)
)
SELECT DISTINCT
  percent_encode(shipment_id) || '/' || percent_encode(order_id) || '/' || percent_encode(order_line) AS trigger_key,
  shipment_id, order_id, order_line
FROM (
  SELECT * FROM assigned
  UNION ALL SELECT * FROM proved
  UNION ALL SELECT * FROM proved_unknown
) AS named
