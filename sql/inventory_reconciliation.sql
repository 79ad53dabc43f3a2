-- inventory_reconciliation: each position of warehouse and ERP, what differs, and why.
-- Grain: one row per site, sku, lot and stock type of the site's own stock, as of the ERP's newest snapshot of the site. Units:
-- quantities in the item's base unit; difference_value at unit cost. Owner: inventory control.
--
-- class, the first that holds:
--   UOM_MISMATCH    a unit has no factor, or one side took one of the item's units for another
--   MISSING_IN_ERP  only the warehouse has it
--   MISSING_IN_WMS  only the ERP has it
--   NEGATIVE_STOCK  a side is below zero
--   MATCH           both say the same
--   TIMING          movements within the posting lag explain it (stock_in_flight)
--   STOCK_TYPE      nets to zero over the stock types of the lot
--   LOT_SWAP        nets to zero over the lots of the stock type
--   TRUE_VARIANCE   none of these: somebody has to look
-- Neither a unit mismatch nor timing enters the netting, and what nets over stock types does not enter that over lots. within_tolerance:
-- by the limits of the item's class (abc_tolerances), measured from the warehouse's quantity; without limits only what is equal.
WITH open_differences AS (
  SELECT
    c.*, f.in_flight_since, f.movements AS in_flight_movements,
    f.site IS NOT NULL AS in_flight,
    CASE
      WHEN c.another_unit IS NOT NULL OR c.difference IS NULL OR (c.in_warehouse AND c.in_erp AND f.site IS NOT NULL) THEN 0
      ELSE c.difference
    END AS open_difference
  FROM stock_comparison AS c
  LEFT JOIN stock_in_flight AS f ON f.site = c.site AND f.sku = c.sku AND f.lot = c.lot AND f.stock_type = c.stock_type
), over_stock_types AS (
  SELECT site, sku, lot, sum(open_difference) AS net
  FROM open_differences
  GROUP BY site, sku, lot
), unexplained AS (
  SELECT
    d.*, t.net AS net_over_stock_types,
    CASE WHEN t.net = 0 THEN 0 ELSE d.open_difference END AS difference_of_lot
  FROM open_differences AS d
  JOIN over_stock_types AS t ON t.site = d.site AND t.sku = d.sku AND t.lot = d.lot
), over_lots AS (
  SELECT site, sku, stock_type, sum(difference_of_lot) AS net
  FROM unexplained
  GROUP BY site, sku, stock_type
)
SELECT
  u.site, u.sku, u.lot, u.stock_type, u.as_of,
  CASE
    WHEN u.another_unit IS NOT NULL OR u.difference IS NULL THEN 'UOM_MISMATCH'
    WHEN NOT u.in_erp THEN 'MISSING_IN_ERP'
    WHEN NOT u.in_warehouse THEN 'MISSING_IN_WMS'
    WHEN u.warehouse_quantity < 0 OR u.erp_quantity < 0 THEN 'NEGATIVE_STOCK'
    WHEN u.difference = 0 THEN 'MATCH'
    WHEN u.in_flight THEN 'TIMING'
    WHEN u.net_over_stock_types = 0 THEN 'STOCK_TYPE'
    WHEN l.net = 0 THEN 'LOT_SWAP'
    ELSE 'TRUE_VARIANCE'
  END AS class,
  u.warehouse_quantity, u.erp_quantity, u.difference, u.base_uom AS uom,
  CAST(u.difference * u.unit_cost AS DECIMAL(18, 3)) AS difference_value,
  CAST(u.warehouse_quantity * u.unit_cost AS DECIMAL(18, 3)) AS warehouse_value,
  CAST(u.erp_quantity * u.unit_cost AS DECIMAL(18, 3)) AS erp_value,
  u.abc_class,
  u.another_unit IS NULL AND u.difference IS NOT NULL AND within_tolerance(
    coalesce(u.erp_quantity, 0), coalesce(u.warehouse_quantity, 0), a.under_pct, a.over_pct, a.under_abs, a.over_abs
  ) AS within_tolerance,
  u.another_unit,
  CASE WHEN u.in_flight THEN u.in_flight_since END AS in_flight_since,
  CASE WHEN u.in_flight THEN u.in_flight_movements END AS in_flight_movements,
  u.available_quantity, u.open_order_quantity, u.open_inbound_quantity
FROM unexplained AS u
JOIN over_lots AS l ON l.site = u.site AND l.sku = u.sku AND l.stock_type = u.stock_type
LEFT JOIN abc_tolerances AS a ON a.abc_class = u.abc_class
