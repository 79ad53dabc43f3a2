-- Grain: day, carrier, verdict.
SELECT day, carrier_id, verdict, count(*) AS shipments
FROM verdicts
GROUP BY day, carrier_id, verdict
