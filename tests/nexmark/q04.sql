-- Nexmark 4: average price for a category, of each auction's highest bid while it was open.
SELECT category, avg(final) AS price
FROM (
  SELECT max(b.price) AS final, a.category
  FROM auction AS a JOIN bid AS b ON a.id = b.auction
  WHERE b.date_time BETWEEN a.date_time AND a.expires
  GROUP BY a.id, a.category
) AS finals
GROUP BY category
