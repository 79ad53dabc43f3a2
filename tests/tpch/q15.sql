-- TPC-H 15: top supplier.
-- Adapted: the view is a WITH; the product is cast to 28 digits. DATE = 1996-01-01.
WITH revenue (supplier_no, total_revenue) AS (
  SELECT l_suppkey, sum(CAST(l_extendedprice * (1 - l_discount) AS DECIMAL(28, 4)))
  FROM lineitem
  WHERE l_shipdate >= DATE '1996-01-01'
    AND l_shipdate < DATE '1996-01-01' + INTERVAL '3' MONTH
  GROUP BY l_suppkey
)
SELECT s_suppkey, s_name, s_address, s_phone, total_revenue
FROM supplier, revenue
WHERE s_suppkey = supplier_no
  AND total_revenue = (SELECT max(total_revenue) FROM revenue)
ORDER BY s_suppkey
