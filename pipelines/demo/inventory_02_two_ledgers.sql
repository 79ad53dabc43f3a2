-- title: where planning and warehouse say different things, and what explains it
-- planned + open orders - open inbound = what the ERP has; what it has not heard of yet is in flight
SELECT
  site, sku, CAST(available_quantity AS BIGINT) AS planned, CAST(open_order_quantity AS BIGINT) AS open_orders,
  CAST(open_inbound_quantity AS BIGINT) AS open_inbound, CAST(erp_quantity AS BIGINT) AS erp,
  CASE WHEN class = 'TIMING' THEN CAST(difference AS BIGINT) ELSE 0 END AS in_flight,
  CASE WHEN class <> 'TIMING' THEN CAST(difference AS BIGINT) ELSE 0 END AS wrong,
  CAST(warehouse_quantity AS BIGINT) AS warehouse
FROM inventory_reconciliation
WHERE available_quantity <> warehouse_quantity OR (available_quantity IS NOT NULL AND difference <> 0)
ORDER BY site, sku
