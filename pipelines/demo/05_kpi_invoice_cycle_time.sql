-- title: from delivery to invoice, by month of the invoice and site
SELECT
  starts_on AS month,
  site,
  invoices,
  CAST(delivery_to_posting_seconds_mean / 3600 AS DECIMAL(9, 1)) AS mean_hours,
  CAST(delivery_to_posting_seconds_p50 / 3600 AS DECIMAL(9, 1)) AS p50_hours,
  CAST(delivery_to_posting_seconds_p90 / 3600 AS DECIMAL(9, 1)) AS p90_hours,
  is_complete
FROM kpi_invoice_cycle_time
WHERE grain = 'month'
ORDER BY starts_on DESC, site
LIMIT 4
