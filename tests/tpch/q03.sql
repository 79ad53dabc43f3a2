-- TPC-H 3: shipping priority. The first 10 rows; orders of one revenue and date are told apart by the other columns.
-- Adapted: the product is cast to 28 digits. SEGMENT = BUILDING, DATE = 1995-03-15.
SELECT
  l_orderkey,
  sum(CAST(l_extendedprice * (1 - l_discount) AS DECIMAL(28, 4))) AS revenue,
  o_orderdate,
  o_shippriority
FROM customer, orders, lineitem
WHERE c_mktsegment = 'BUILDING'
  AND c_custkey = o_custkey
  AND l_orderkey = o_orderkey
  AND o_orderdate < DATE '1995-03-15'
  AND l_shipdate > DATE '1995-03-15'
GROUP BY l_orderkey, o_orderdate, o_shippriority
ORDER BY revenue DESC, o_orderdate
LIMIT 10
