-- Grain: one row a shipment with proof of delivery; what may be said of it by order and customer.
SELECT
    shipments.shipment_id,
    shipments.carrier_id,
    CAST(shipments.proven_at AS DATE) AS day,
    CASE
        WHEN customers.customer_id IS NULL THEN 'UNMATCHED'
        WHEN customers.credit_hold THEN 'CREDIT_HOLD'
        WHEN gone_out_at IS NULL OR proven_at < gone_out_at THEN 'SEQUENCE_VIOLATION'
        WHEN shipped IS NULL OR delivered IS NULL THEN 'INCOMPLETE'
        WHEN delivered * 100 < shipped * (100 - under_pct) THEN 'QTY_SHORT'
        WHEN delivered * 100 > shipped * (100 + over_pct) THEN 'QTY_OVER'
        ELSE 'VALIDATED'
    END AS verdict
FROM shipments
LEFT JOIN orders ON orders.order_id = shipments.order_id
LEFT JOIN customers ON customers.customer_id = orders.customer_id
WHERE proven_at IS NOT NULL
