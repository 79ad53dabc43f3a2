-- inventory_differences: how much of the stock does not agree, by site and class.
-- Grain: one row per site and class. Units: quantities in base units, added up over items; values at unit cost. Owner: inventory control.
--
-- A surplus is never netted against a shortage: gross is the sum of the absolute differences, net that of the signed ones, and
-- surplus less shortage is net. Differences that are not known (a unit without a factor) are counted in positions only.
SELECT
  site, class,
  count(*) AS positions,
  count(*) FILTER (WHERE within_tolerance) AS positions_within_tolerance,
  CAST(coalesce(sum(difference) FILTER (WHERE difference > 0), 0) AS DECIMAL(18, 3)) AS surplus,
  CAST(coalesce(-sum(difference) FILTER (WHERE difference < 0), 0) AS DECIMAL(18, 3)) AS shortage,
  CAST(coalesce(sum(abs(difference)), 0) AS DECIMAL(18, 3)) AS gross,
  CAST(coalesce(sum(difference), 0) AS DECIMAL(18, 3)) AS net,
  CAST(coalesce(sum(abs(difference_value)), 0) AS DECIMAL(18, 3)) AS gross_value,
  CAST(coalesce(sum(difference_value), 0) AS DECIMAL(18, 3)) AS net_value
FROM inventory_reconciliation
GROUP BY site, class
