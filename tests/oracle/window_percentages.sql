SELECT key, line, quantity / nullif(sum(quantity) OVER (PARTITION BY key), 0) AS share, quantity - avg(quantity) OVER () AS off FROM a WHERE quantity > 0
