-- title: from delivery to invoice, by month of the invoice
SELECT
  starts_on AS month,
  sum(invoices) AS invoices,
  CAST(CAST(sum(delivery_to_posting_seconds_sum) AS DECIMAL(18, 3)) / 3600 / nullif(sum(invoices), 0) AS DECIMAL(9, 1)) AS mean_hours,
  bool_and(is_complete) AS is_complete
FROM kpi_invoice_cycle_time
WHERE grain = 'month'
GROUP BY starts_on
ORDER BY starts_on DESC
LIMIT 4
