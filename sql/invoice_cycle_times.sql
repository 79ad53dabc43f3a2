-- invoice_cycle_times: how long each invoice took, from delivery to posting, with its parts.
-- Grain: one row per invoiced delivery line, trigger_key. Units: whole seconds; posted_on is the site's local day of the
-- posting. Owner: finance team.
--
-- Delivery is the last arrival that was told, else the moment of the proof; durations are null where it is not known. Where
-- gate-out is enough or delivery was confirmed automatically the invoice may come first: its time is negative.
-- Where the trigger lies between proof and posting comes with history tables.
SELECT
  i.trigger_key,
  coalesce(d.site, '') AS site,
  local_date(i.posted_at, coalesce(s.time_zone, 'UTC')) AS posted_on,
  to_unixtime(i.posted_at) - to_unixtime(coalesce(d.arrived_at, d.proof_at)) AS delivery_to_posting_seconds,
  to_unixtime(d.proof_at) - to_unixtime(coalesce(d.arrived_at, d.proof_at)) AS delivery_to_proof_seconds,
  to_unixtime(i.posted_at) - to_unixtime(d.proof_at) AS proof_to_posting_seconds
FROM invoices AS i
JOIN delivery_lines AS d ON d.trigger_key = i.trigger_key
LEFT JOIN sites AS s ON s.site = d.site
