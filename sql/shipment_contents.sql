-- shipment_contents: what was assigned to a shipment, which is what counts as shipped.
-- Grain: one row per delivery line. Units: quantity in the order line's uom. Owner: warehouse team.
--
-- Several assignments of one line to one shipment add up.
SELECT
  trigger_key,
  CAST(sum(quantity) AS DECIMAL(18, 3)) AS shipped_quantity,
  min(occurred_at) AS dispatched_at,
  min(sku) AS first_sku,
  max(sku) AS last_sku
FROM delivery_milestones
WHERE event_type = 'dispatch.assigned'
GROUP BY trigger_key
