-- title: the largest difference of each class, explained
WITH named AS (
  SELECT
    *, concat_ws(' ', sku, nullif(lot, ''), nullif(stock_type, 'unrestricted')) AS position, abs(difference_value) AS amount
  FROM inventory_reconciliation
  WHERE class <> 'MATCH'
), largest AS (
  SELECT class, first_value(position ORDER BY amount DESC NULLS LAST, site, position) AS position
  FROM named
  GROUP BY class
)
SELECT
  class, site, position, CAST(warehouse_quantity AS BIGINT) AS warehouse, CAST(erp_quantity AS BIGINT) AS erp,
  CASE class
    WHEN 'UOM_MISMATCH' THEN coalesce('one side counts ' || another_unit, 'a unit without a factor')
    WHEN 'MISSING_IN_ERP' THEN 'the ERP never heard of it'
    WHEN 'MISSING_IN_WMS' THEN 'the warehouse never saw it'
    WHEN 'NEGATIVE_STOCK' THEN 'a receipt was not booked'
    WHEN 'TIMING' THEN concat(
      CASE WHEN in_flight_movements = 1 THEN '1 movement' ELSE concat(in_flight_movements, ' movements') END,
      ' on the way to the ERP since ', to_char(in_flight_since, '%H:%M'), ' UTC'
    )
    WHEN 'STOCK_TYPE' THEN 'nets to zero over stock types'
    WHEN 'LOT_SWAP' THEN 'nets to zero over lots'
    ELSE CASE WHEN within_tolerance THEN 'within the tolerance of class ' ELSE 'beyond the tolerance of class ' END || abc_class
  END AS because
FROM named
JOIN largest USING (class, position)
ORDER BY class
