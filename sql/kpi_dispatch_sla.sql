-- kpi_dispatch_sla: did order lines leave by their dispatch deadline?
-- Grain: one row per site and local day of the deadline. Units: order lines. Owner: warehouse team.
--
-- The rate is lines_on_time (numerator) / lines_due (denominator); to sum it up, sum both. A line counts once its deadline
-- has passed, and is a miss from that moment on if it has not gone out; a split line passes when its last needed quantity
-- does. Cancelled lines leave; lines without a deadline are counted in kpi_dispatch_sla_undated. lines_open are those whose
-- deadline is still to come. is_complete: the day is over everywhere on Earth, noon UTC of the next day.
-- Calendars and releases are master data as they are NOW.
WITH days AS (
  SELECT
    site, deadline_day AS day,
    count(*) FILTER (WHERE deadline_passed AND on_time) AS lines_on_time,
    count(*) FILTER (WHERE deadline_passed) AS lines_due,
    count(*) FILTER (WHERE deadline_passed AND gone_out_at IS NULL) AS lines_not_gone_out,
    count(*) FILTER (WHERE NOT deadline_passed) AS lines_open
  FROM order_line_dispatch
  WHERE deadline_day IS NOT NULL
  GROUP BY site, deadline_day
)
SELECT
  day, site, lines_on_time, lines_due, lines_not_gone_out, lines_open,
  coalesce(arrow_cast(day, 'Timestamp(Microsecond, Some("UTC"))') + INTERVAL '36 hours' <= watermark(), false) AS is_complete
FROM days
