-- kpi_inventory_accuracy: how many positions agree, and what the others are worth.
-- Grain: one row per site and ABC class of the items, '' where an item has none, as of the ERP's newest snapshot of the site. Units:
-- quantities in base units; values at unit cost. Owner: inventory control.
--
-- The rate is positions_within_tolerance / positions_compared; over several rows that of the sums, never a mean of rates. By value it
-- is 1 - gross_value / warehouse_value.
-- is_complete: all events up to the snapshot are taken to be there.
SELECT
  site, coalesce(abc_class, '') AS abc_class, as_of,
  count(*) AS positions_compared,
  count(*) FILTER (WHERE within_tolerance) AS positions_within_tolerance,
  count(*) FILTER (WHERE difference = 0) AS positions_equal,
  CAST(coalesce(sum(abs(difference)), 0) AS DECIMAL(18, 3)) AS gross,
  CAST(coalesce(sum(difference), 0) AS DECIMAL(18, 3)) AS net,
  CAST(coalesce(sum(warehouse_value), 0) AS DECIMAL(18, 3)) AS warehouse_value,
  CAST(coalesce(sum(erp_value), 0) AS DECIMAL(18, 3)) AS erp_value,
  CAST(coalesce(sum(abs(difference_value)), 0) AS DECIMAL(18, 3)) AS gross_value,
  CAST(coalesce(sum(difference_value), 0) AS DECIMAL(18, 3)) AS net_value,
  coalesce(as_of < watermark(), false) AS is_complete
FROM inventory_reconciliation
GROUP BY site, abc_class, as_of
