-- title: order lines that left by their dispatch deadline
WITH sites AS (
  SELECT site, sum(lines_on_time) AS on_time, sum(lines_due) AS due
  FROM kpi_dispatch_sla
  WHERE is_complete
  GROUP BY site
), rows AS (
  SELECT * FROM sites
  UNION ALL
  SELECT 'all sites', sum(on_time), sum(due) FROM sites
)
SELECT site, on_time, due, CAST(100 * CAST(on_time AS DECIMAL(18, 1)) / nullif(due, 0) AS DECIMAL(4, 1)) AS percent
FROM rows
ORDER BY site = 'all sites', site
