-- title: invoice triggers
SELECT currency, basis, count(*) AS triggers, sum(amount) AS amount
FROM invoice_triggers
GROUP BY currency, basis
ORDER BY currency, triggers DESC, basis
