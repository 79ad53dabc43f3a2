-- title: delivery lines by state
SELECT state, count(*) AS lines, count(overdue) AS overdue
FROM shipment_state
GROUP BY state
ORDER BY CASE state
  WHEN 'released' THEN 1 WHEN 'allocated' THEN 2 WHEN 'picked' THEN 3 WHEN 'dispatched' THEN 4 WHEN 'in_transit' THEN 5
  WHEN 'delivered' THEN 6 WHEN 'exception' THEN 7 WHEN 'ready_to_invoice' THEN 8 WHEN 'invoiced' THEN 9
  WHEN 'returned' THEN 10 ELSE 11
END
