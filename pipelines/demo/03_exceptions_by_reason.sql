-- title: exceptions by reason
WITH reasons AS (
  SELECT trigger_key, unnest(reasons) AS reason, queue FROM invoice_exceptions
)
SELECT reason, count(*) AS lines, min(queue) AS queue
FROM reasons
GROUP BY reason
ORDER BY lines DESC, reason
