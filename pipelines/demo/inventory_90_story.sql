-- title: one explained difference
-- The dearest one that timing explains, among the positions of which planning speaks; ties by key.
WITH picked AS (
  SELECT
    r.*, (to_unixtime(s.as_of) - to_unixtime(s.posted_up_to)) / 3600 AS lag_hours,
    regexp_replace(CAST(r.warehouse_quantity AS VARCHAR), '\.?0+$', '') AS warehouse,
    regexp_replace(CAST(r.erp_quantity AS VARCHAR), '\.?0+$', '') AS erp,
    regexp_replace(CAST(r.available_quantity AS VARCHAR), '\.?0+$', '') AS available,
    regexp_replace(CAST(r.open_order_quantity AS VARCHAR), '\.?0+$', '') AS open_orders,
    regexp_replace(CAST(r.open_inbound_quantity AS VARCHAR), '\.?0+$', '') AS open_inbound,
    regexp_replace(CAST(abs(r.difference) AS VARCHAR), '\.?0+$', '') AS in_flight,
    regexp_replace(CAST(p.quantity AS VARCHAR), '\.?0+$', '') AS now,
    p.quantity AS quantity_now
  FROM inventory_reconciliation AS r
  JOIN erp_snapshots AS s ON s.site = r.site
  JOIN stock_position AS p
    ON p.site = r.site AND p.sku = r.sku AND p.lot = r.lot AND p.stock_type = r.stock_type AND p.owner_id = ''
  WHERE r.class = 'TIMING' AND r.available_quantity IS NOT NULL
  ORDER BY abs(r.difference_value) DESC, r.site, r.sku, r.lot, r.stock_type
  LIMIT 1
)
SELECT concat(
  sku, ' in ', site, ', as of ', to_char(as_of, '%Y-%m-%d %H:%M'), ' UTC: planning calls ', available, ' available, the ERP has ', erp,
  ' on hand, the warehouse ', warehouse, '. Nothing is wrong. Planning takes off what customers ordered (', open_orders,
  ' not issued yet) and adds what suppliers owe (', open_inbound, '): ', available, ' + ', open_orders, ' - ', open_inbound, ' = ', erp,
  '. The other ', in_flight, CASE WHEN in_flight_movements = 1 THEN ' moved once' ELSE concat(' moved in ', in_flight_movements, ' steps') END,
  ' since ', to_char(in_flight_since, '%H:%M'), ' UTC, and the ERP may take ', lag_hours, ' hours to post that (', class, ').',
  CASE
    WHEN quantity_now <> warehouse_quantity
      THEN concat(' What moved later does not enter: now the warehouse has ', now, '.')
    ELSE ''
  END
) AS story
FROM picked
