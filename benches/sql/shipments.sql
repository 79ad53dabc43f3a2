-- Grain: one row a shipment, as its milestones so far tell it.
SELECT
    shipment_id,
    max(order_id) AS order_id,
    max(carrier_id) AS carrier_id,
    min(occurred_at) FILTER (WHERE event_type = 'gate.out') AS gone_out_at,
    max(occurred_at) FILTER (WHERE event_type = 'pod.received') AS proven_at,
    sum(quantity) FILTER (WHERE event_type = 'dispatch.assigned') AS shipped,
    sum(quantity) FILTER (WHERE event_type = 'pod.received') AS delivered
FROM milestones
GROUP BY shipment_id
