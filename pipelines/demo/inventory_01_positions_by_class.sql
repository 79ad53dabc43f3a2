-- title: stock positions by class: warehouse against ERP
-- gross never nets a surplus against a shortage; values in EUR at unit cost
WITH classes AS (
  SELECT
    class, sum(positions) AS positions, sum(positions_within_tolerance) AS tolerable, sum(surplus) AS surplus, sum(shortage) AS shortage,
    sum(gross_value) AS gross_value, sum(net_value) AS net_value
  FROM inventory_differences
  GROUP BY class
), rows AS (
  SELECT * FROM classes
  UNION ALL
  SELECT 'all', sum(positions), sum(tolerable), sum(surplus), sum(shortage), sum(gross_value), sum(net_value) FROM classes
)
SELECT
  class, positions, tolerable, CAST(surplus AS BIGINT) AS surplus, CAST(shortage AS BIGINT) AS shortage,
  CAST(gross_value AS DECIMAL(12, 2)) AS gross_value, CAST(net_value AS DECIMAL(12, 2)) AS net_value
FROM rows
ORDER BY CASE class
  WHEN 'MATCH' THEN 1 WHEN 'TIMING' THEN 2 WHEN 'UOM_MISMATCH' THEN 3 WHEN 'MISSING_IN_ERP' THEN 4 WHEN 'MISSING_IN_WMS' THEN 5
  WHEN 'NEGATIVE_STOCK' THEN 6 WHEN 'STOCK_TYPE' THEN 7 WHEN 'LOT_SWAP' THEN 8 WHEN 'TRUE_VARIANCE' THEN 9 ELSE 10
END
