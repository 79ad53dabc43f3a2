-- kpi_invoice_cycle_time: calendar time from delivery to invoice posted.
-- Grain: one row per grain (day, week, month), the period's first day and site; the day is that of the posting, local to the
-- site, weeks begin on Monday. Units: durations in seconds; means rounded to milliseconds. Owner: finance team.
--
-- Delivery is the last arrival that was told, else the moment of the proof. Where gate-out is enough or delivery was confirmed
-- automatically the invoice may come first: it counts with its negative time. Invoices of lines without a delivery are
-- counted apart. Means over several rows: sum / invoices of the sums, never a mean of means.
-- Parts: delivery to proof, proof to posting. Where the trigger lies between proof and posting comes with history tables.
-- is_complete: the period is over everywhere on Earth, noon UTC of the day after.
WITH posted AS (
  SELECT
    coalesce(d.site, '') AS site,
    -- The local day: 13:59:59 of that day lies on the same date in UTC for every offset from -10:00 to +13:59.
    CAST(sla_deadline(
      i.posted_at, TIME '23:59:59.999999', TIME '13:59:59', coalesce(s.time_zone, 'UTC'), make_array(1, 2, 3, 4, 5, 6, 7), make_array(), 0
    ) AS DATE) AS posted_on,
    to_unixtime(i.posted_at) - to_unixtime(coalesce(d.arrived_at, d.proof_at)) AS delivery_to_posting,
    to_unixtime(d.proof_at) - to_unixtime(coalesce(d.arrived_at, d.proof_at)) AS delivery_to_proof,
    to_unixtime(i.posted_at) - to_unixtime(d.proof_at) AS proof_to_posting
  FROM invoices AS i
  JOIN delivery_lines AS d ON d.trigger_key = i.trigger_key
  LEFT JOIN sites AS s ON s.site = d.site
), periods AS (
  SELECT 'day' AS grain, posted_on AS starts_on, CAST(posted_on + INTERVAL '1 day' AS DATE) AS ends_before, *
  FROM posted
  UNION ALL
  SELECT
    'week', CAST(date_trunc('week', posted_on) AS DATE), CAST(date_trunc('week', posted_on) + INTERVAL '7 days' AS DATE), *
  FROM posted
  UNION ALL
  SELECT
    'month', CAST(date_trunc('month', posted_on) AS DATE), CAST(date_trunc('month', posted_on) + INTERVAL '1 month' AS DATE), *
  FROM posted
), sums AS (
  SELECT
    grain, starts_on, ends_before, site,
    count(delivery_to_posting) AS invoices,
    count(*) FILTER (WHERE delivery_to_posting IS NULL) AS invoices_without_delivery,
    count(*) FILTER (WHERE delivery_to_posting < 0) AS invoices_before_delivery,
    sum(delivery_to_posting) AS delivery_to_posting_seconds_sum,
    count(delivery_to_proof) AS proofs,
    sum(delivery_to_proof) AS delivery_to_proof_seconds_sum,
    sum(proof_to_posting) AS proof_to_posting_seconds_sum
  FROM periods
  GROUP BY grain, starts_on, ends_before, site
)
SELECT
  grain, starts_on, site,
  invoices, delivery_to_posting_seconds_sum,
  CAST(CAST(delivery_to_posting_seconds_sum AS DECIMAL(18, 3)) / nullif(invoices, 0) AS DECIMAL(18, 3)) AS delivery_to_posting_seconds_mean,
  invoices_without_delivery, invoices_before_delivery,
  proofs, delivery_to_proof_seconds_sum, proof_to_posting_seconds_sum,
  coalesce(arrow_cast(ends_before, 'Timestamp(Microsecond, Some("UTC"))') + INTERVAL '12 hours' <= watermark(), false) AS is_complete
FROM sums
