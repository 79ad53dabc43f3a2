-- TPC-H 11: important stock identification.
-- Adapted: the product is cast to 28 digits. NATION = GERMANY; FRACTION = 0.0001, whatever the scale factor.
SELECT ps_partkey, sum(CAST(ps_supplycost * ps_availqty AS DECIMAL(28, 2))) AS value
FROM partsupp, supplier, nation
WHERE ps_suppkey = s_suppkey
  AND s_nationkey = n_nationkey
  AND n_name = 'GERMANY'
GROUP BY ps_partkey
HAVING sum(CAST(ps_supplycost * ps_availqty AS DECIMAL(28, 2))) > (
  SELECT sum(CAST(ps_supplycost * ps_availqty AS DECIMAL(28, 2))) * 0.0001
  FROM partsupp, supplier, nation
  WHERE ps_suppkey = s_suppkey
    AND s_nationkey = n_nationkey
    AND n_name = 'GERMANY'
)
ORDER BY value DESC
