-- TPC-H 1: pricing summary report.
-- Adapted: a product of decimals is cast to 28 digits before it is summed up, since wider sums could wrap. DELTA = 90.
SELECT
  l_returnflag,
  l_linestatus,
  sum(l_quantity) AS sum_qty,
  sum(l_extendedprice) AS sum_base_price,
  sum(CAST(l_extendedprice * (1 - l_discount) AS DECIMAL(28, 4))) AS sum_disc_price,
  sum(CAST(l_extendedprice * (1 - l_discount) * (1 + l_tax) AS DECIMAL(28, 6))) AS sum_charge,
  avg(l_quantity) AS avg_qty,
  avg(l_extendedprice) AS avg_price,
  avg(l_discount) AS avg_disc,
  count(*) AS count_order
FROM lineitem
WHERE l_shipdate <= DATE '1998-12-01' - INTERVAL '90' DAY
GROUP BY l_returnflag, l_linestatus
ORDER BY l_returnflag, l_linestatus
