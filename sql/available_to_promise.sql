-- available_to_promise: how much of an item may still be promised.
-- Grain: one row per site and sku. Units: the item's base unit. Owner: order-to-cash team.
--
-- Unrestricted stock on hand of all lots and owners, less what orders bind: open allocations, and what is released and not picked.
-- Below zero more is promised than there is. unknown_units counts what could not be converted and is in none of the sums.
WITH on_hand AS (
  SELECT
    site, sku,
    sum(quantity) AS on_hand, sum(quantity) FILTER (WHERE owner_id <> '') AS vendor_owned,
    count(*) FILTER (WHERE quantity IS NULL) AS unknown_units
  FROM stock_position
  WHERE stock_type = 'unrestricted'
  GROUP BY site, sku
), bound AS (
  SELECT
    site, sku,
    sum(open_allocated) AS open_allocated, sum(released_not_picked) AS released_not_picked,
    count(*) FILTER (WHERE open_allocated > 0 OR released_not_picked > 0) AS open_order_lines,
    sum(unknown_units) AS unknown_units
  FROM order_line_commitments
  GROUP BY site, sku
), joined AS (
  SELECT
    coalesce(h.site, b.site) AS site, coalesce(h.sku, b.sku) AS sku,
    coalesce(h.on_hand, 0) AS on_hand, coalesce(h.vendor_owned, 0) AS vendor_owned,
    coalesce(b.open_allocated, 0) AS open_allocated, coalesce(b.released_not_picked, 0) AS released_not_picked,
    coalesce(b.open_order_lines, 0) AS open_order_lines,
    coalesce(h.unknown_units, 0) + coalesce(b.unknown_units, 0) AS unknown_units
  FROM on_hand AS h
  FULL JOIN bound AS b ON b.site = h.site AND b.sku = h.sku
)
SELECT
  j.site, j.sku, i.base_uom AS uom,
  CAST(j.on_hand AS DECIMAL(18, 3)) AS on_hand,
  CAST(j.vendor_owned AS DECIMAL(18, 3)) AS vendor_owned,
  CAST(j.open_allocated AS DECIMAL(18, 3)) AS open_allocated,
  CAST(j.released_not_picked AS DECIMAL(18, 3)) AS released_not_picked,
  CAST(j.on_hand - j.open_allocated - j.released_not_picked AS DECIMAL(18, 3)) AS available_to_promise,
  j.open_order_lines, j.unknown_units
FROM joined AS j
LEFT JOIN items AS i ON i.sku = j.sku
