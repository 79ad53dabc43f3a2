-- kpi_invoice_cycle_time: calendar time from delivery to invoice posted.
-- Grain: one row per grain (day, week, month), the period's first day and site; the day is that of the posting, local to the
-- site, weeks begin on Monday. Units: durations in seconds; means and percentiles rounded to milliseconds. Owner: finance
-- team.
--
-- invoices counts those with a delivery, also the ones that came before it (negative time); those without are counted
-- apart. Over several rows the mean is the sum of the sums by the sum of the invoices, never a mean of means.
-- p50 and p90 are exact percentiles of the invoices that have the duration, interpolated between the two nearest where
-- they lie between two; those of several rows can't be had from theirs, but from invoice_cycle_times.
-- Parts: delivery to proof, proof to posting.
-- is_complete: the period is over everywhere on Earth, noon UTC of the day after.
WITH periods AS (
  SELECT 'day' AS grain, posted_on AS starts_on, CAST(posted_on + INTERVAL '1 day' AS DATE) AS ends_before, *
  FROM invoice_cycle_times
  UNION ALL
  SELECT
    'week', CAST(date_trunc('week', posted_on) AS DATE), CAST(date_trunc('week', posted_on) + INTERVAL '7 days' AS DATE), *
  FROM invoice_cycle_times
  UNION ALL
  SELECT
    'month', CAST(date_trunc('month', posted_on) AS DATE), CAST(date_trunc('month', posted_on) + INTERVAL '1 month' AS DATE), *
  FROM invoice_cycle_times
), sums AS (
  SELECT
    grain, starts_on, ends_before, site,
    count(delivery_to_posting_seconds) AS invoices,
    count(*) FILTER (WHERE delivery_to_posting_seconds IS NULL) AS invoices_without_delivery,
    count(*) FILTER (WHERE delivery_to_posting_seconds < 0) AS invoices_before_delivery,
    sum(delivery_to_posting_seconds) AS delivery_to_posting_seconds_sum,
    count(proof_to_posting_seconds) AS invoices_with_proof,
    sum(delivery_to_proof_seconds) AS delivery_to_proof_seconds_sum,
    sum(proof_to_posting_seconds) AS proof_to_posting_seconds_sum,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY delivery_to_posting_seconds) AS delivery_to_posting_p50,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY delivery_to_posting_seconds) AS delivery_to_posting_p90,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY delivery_to_proof_seconds) AS delivery_to_proof_p50,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY delivery_to_proof_seconds) AS delivery_to_proof_p90,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY proof_to_posting_seconds) AS proof_to_posting_p50,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY proof_to_posting_seconds) AS proof_to_posting_p90
  FROM periods
  GROUP BY grain, starts_on, ends_before, site
)
SELECT
  grain, starts_on, site,
  invoices, delivery_to_posting_seconds_sum,
  CAST(CAST(delivery_to_posting_seconds_sum AS DECIMAL(18, 3)) / nullif(invoices, 0) AS DECIMAL(18, 3)) AS delivery_to_posting_seconds_mean,
  CAST(delivery_to_posting_p50 AS DECIMAL(18, 3)) AS delivery_to_posting_seconds_p50,
  CAST(delivery_to_posting_p90 AS DECIMAL(18, 3)) AS delivery_to_posting_seconds_p90,
  invoices_without_delivery, invoices_before_delivery,
  invoices_with_proof, delivery_to_proof_seconds_sum, proof_to_posting_seconds_sum,
  CAST(delivery_to_proof_p50 AS DECIMAL(18, 3)) AS delivery_to_proof_seconds_p50,
  CAST(delivery_to_proof_p90 AS DECIMAL(18, 3)) AS delivery_to_proof_seconds_p90,
  CAST(proof_to_posting_p50 AS DECIMAL(18, 3)) AS proof_to_posting_seconds_p50,
  CAST(proof_to_posting_p90 AS DECIMAL(18, 3)) AS proof_to_posting_seconds_p90,
  coalesce(arrow_cast(ends_before, 'Timestamp(Microsecond, Some("UTC"))') + INTERVAL '12 hours' <= watermark(), false) AS is_complete
FROM sums
