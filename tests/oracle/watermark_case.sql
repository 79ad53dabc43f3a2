SELECT key, line, CASE WHEN at + INTERVAL '2 hours' < watermark() THEN 'overdue' WHEN watermark() >= at THEN 'due' ELSE 'open' END AS state FROM a
