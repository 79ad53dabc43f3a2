-- stock_counts: what was counted, where.
-- Grain: one row per event_id. Units: quantity in the item's base unit; null where its unit is not known. Owner: warehouse team.
SELECT event_id, site, sku, lot, stock_type, owner_id, occurred_at, recorded_at, quantity, document_id
FROM base_quantities
WHERE event_type = 'stock.counted'
