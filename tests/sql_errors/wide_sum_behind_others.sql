SELECT
  key,
  sum(line) AS lines,
  sum(quantity) AS total,
  -- a sum of another kind
  sum(DISTINCT (quantity + 1) * quantity) AS squares
FROM a
GROUP BY key
