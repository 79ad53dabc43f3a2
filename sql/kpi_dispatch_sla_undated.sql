-- kpi_dispatch_sla_undated: order lines that have no dispatch deadline, because release or site is not known.
-- Grain: one row per site. Units: order lines. Owner: warehouse team.
SELECT site, count(*) AS lines
FROM order_line_dispatch
WHERE deadline_day IS NULL
GROUP BY site
