-- stock_movements: everything that changed the stock on hand, apart from counts.
-- Grain: one row per event_id. Units: quantity in the item's base unit, signed; null where its unit is not known. Owner: warehouse team.
--
-- Stock changes by stock.moved only; a pick moves it where the site says picks_move_stock, and there alone, for elsewhere the
-- warehouse sends the movement too.
SELECT
  q.event_id, q.site, q.sku, q.lot, q.stock_type, q.owner_id, q.occurred_at, q.recorded_at, q.quantity, q.event_type, q.document_id
FROM base_quantities AS q
WHERE q.event_type = 'stock.moved'
UNION ALL
SELECT
  q.event_id, q.site, q.sku, q.lot, q.stock_type, q.owner_id, q.occurred_at, q.recorded_at, -q.quantity, q.event_type, q.document_id
FROM base_quantities AS q
JOIN sites AS s ON s.site = q.site
WHERE q.event_type = 'pick.confirmed' AND s.picks_move_stock
