-- title: inventory accuracy by ABC class
WITH classes AS (
  SELECT
    abc_class, sum(positions_within_tolerance) AS within_tolerance, sum(positions_compared) AS compared,
    sum(gross_value) AS gross_value, sum(warehouse_value) AS warehouse_value
  FROM kpi_inventory_accuracy
  GROUP BY abc_class
), rows AS (
  SELECT * FROM classes
  UNION ALL
  SELECT 'all', sum(within_tolerance), sum(compared), sum(gross_value), sum(warehouse_value) FROM classes
)
SELECT
  abc_class, within_tolerance, compared,
  CAST(100 * CAST(within_tolerance AS DECIMAL(18, 1)) / nullif(compared, 0) AS DECIMAL(4, 1)) AS percent,
  CAST(100 - 100 * CAST(gross_value AS DECIMAL(18, 3)) / nullif(CAST(warehouse_value AS DECIMAL(18, 3)), 0) AS DECIMAL(9, 1))
    AS percent_by_value
FROM rows
ORDER BY abc_class = 'all', abc_class
