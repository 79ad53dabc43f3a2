-- TPC-H 14: promotion effect.
-- Adapted: the product is cast to 28 digits. DATE = 1995-09-01.
SELECT
  100.00 * sum(
    CASE WHEN p_type LIKE 'PROMO%' THEN CAST(l_extendedprice * (1 - l_discount) AS DECIMAL(28, 4)) ELSE 0 END
  ) / sum(CAST(l_extendedprice * (1 - l_discount) AS DECIMAL(28, 4))) AS promo_revenue
FROM lineitem, part
WHERE l_partkey = p_partkey
  AND l_shipdate >= DATE '1995-09-01'
  AND l_shipdate < DATE '1995-09-01' + INTERVAL '1' MONTH
