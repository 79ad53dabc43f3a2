-- erp_snapshots: as of when the ERP last told the stock of a site, all its positions at once.
-- Grain: one row per site. Owner: inventory control.
--
-- posted_up_to: what happened before it must have reached the ERP by then; null where the site allows no posting_lag.
WITH newest AS (
  SELECT site, max(as_of) AS as_of
  FROM erp_stock
  GROUP BY site
)
SELECT n.site, n.as_of, n.as_of - s.posting_lag AS posted_up_to
FROM newest AS n
LEFT JOIN sites AS s ON s.site = n.site
