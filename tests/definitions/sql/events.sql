-- grain: one row an event
SELECT event_id, site, occurred_at FROM milestones
