-- kpi_integration: what became of the events of each source, and how long they took to arrive.
-- Grain: one row per source that gave events. Units: events; delays in seconds, their mean rounded to milliseconds.
-- Owner: order-to-cash team.
--
-- events_read = events_accepted + events_duplicate + events_late + dead_letters. Everything read so far counts: there is no
-- period, so no is_complete. The delay is from what occurred_at says to the moment at which the broker took the event, over the
-- accepted events with both: known for milestones only, and not where events come from files, which have no such moment: zero
-- events_with_delay, and nulls. A mean over several rows is the sum of the sums by the sum of the events, never a mean of means.
-- Not here yet: unmapped codes, which come with the partners' code maps.
WITH counts AS (
  SELECT
    source,
    sum(read) AS events_read,
    sum(accepted) AS events_accepted,
    sum(duplicate) AS events_duplicate,
    sum(late) AS events_late
  FROM milepost.intake
  GROUP BY source
), letters AS (
  SELECT source, count(*) AS dead_letters
  FROM milepost.dead_letters
  GROUP BY source
), delays AS (
  SELECT
    'milestones' AS source,
    count(_received_at) AS events_with_delay,
    sum(to_unixtime(_received_at) - to_unixtime(occurred_at)) AS occurred_to_received_seconds_sum
  FROM milestones
)
SELECT
  c.source, c.events_read, c.events_accepted, c.events_duplicate, c.events_late,
  coalesce(l.dead_letters, 0) AS dead_letters,
  coalesce(d.events_with_delay, 0) AS events_with_delay,
  d.occurred_to_received_seconds_sum,
  CAST(CAST(d.occurred_to_received_seconds_sum AS DECIMAL(18, 3)) / nullif(d.events_with_delay, 0) AS DECIMAL(18, 3))
    AS occurred_to_received_seconds_mean
FROM counts AS c
LEFT JOIN letters AS l ON l.source = c.source
LEFT JOIN delays AS d ON d.source = c.source
