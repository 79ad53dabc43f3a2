-- stock_comparison: the warehouse's and the ERP's quantity of each position, side by side, at the ERP's moment.
-- Grain: one row per site, sku, lot and stock type. Units: quantities in the item's base unit. Owner: inventory control.
--
-- Vendor-owned stock is outside the comparison. Where one side has nothing and the other has zero there is nothing to compare.
-- difference is warehouse less ERP, a side that has nothing counts as zero: the warehouse leads, the ERP gets corrected. It is null
-- where the warehouse's quantity is not known. A site of which the ERP has told no stock is not compared.
-- another_unit: the quantities differ by the factor of one of the item's units, which one side took for the other.
WITH erp AS (
  SELECT * FROM erp_stock WHERE owner_id = ''
), both_sides AS (
  SELECT
    coalesce(w.site, e.site) AS site, coalesce(w.sku, e.sku) AS sku, coalesce(w.lot, e.lot) AS lot,
    coalesce(w.stock_type, e.stock_type) AS stock_type,
    w.site IS NOT NULL AS in_warehouse, e.site IS NOT NULL AS in_erp,
    w.quantity AS warehouse_quantity, e.quantity AS erp_quantity,
    CASE
      WHEN w.site IS NULL OR w.quantity IS NOT NULL
        THEN CAST(coalesce(w.quantity, 0) - coalesce(e.quantity, 0) AS DECIMAL(18, 3))
    END AS difference,
    e.available_quantity, e.open_order_quantity, e.open_inbound_quantity
  FROM stock_at_snapshot AS w
  FULL JOIN erp AS e ON e.site = w.site AND e.sku = w.sku AND e.lot = w.lot AND e.stock_type = w.stock_type
), units AS (
  SELECT b.site, b.sku, b.lot, b.stock_type, min(u.uom) AS uom
  FROM both_sides AS b
  JOIN item_uoms AS u
    ON u.sku = b.sku AND (
      b.warehouse_quantity * u.denominator = b.erp_quantity * u.numerator
      OR b.warehouse_quantity * u.numerator = b.erp_quantity * u.denominator
    )
  WHERE b.difference <> 0 AND b.warehouse_quantity <> 0
  GROUP BY b.site, b.sku, b.lot, b.stock_type
)
SELECT
  b.site, b.sku, b.lot, b.stock_type, s.as_of, s.posted_up_to, i.abc_class, i.base_uom, i.unit_cost,
  b.in_warehouse, b.in_erp, b.warehouse_quantity, b.erp_quantity, b.difference, u.uom AS another_unit,
  b.available_quantity, b.open_order_quantity, b.open_inbound_quantity
FROM both_sides AS b
JOIN erp_snapshots AS s ON s.site = b.site
LEFT JOIN units AS u ON u.site = b.site AND u.sku = b.sku AND u.lot = b.lot AND u.stock_type = b.stock_type
LEFT JOIN items AS i ON i.sku = b.sku
WHERE (b.in_warehouse AND b.in_erp) OR b.difference IS NULL OR b.difference <> 0
