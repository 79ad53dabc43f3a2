-- base_quantities: what each event about an item says, in the item's base unit.
-- Grain: one row per event_id. Units: quantity in base_uom; reported_quantity in reported_uom, as the event has it.
-- Owner: warehouse team.
--
-- quantity is null where the unit has no factor (item_uoms) or the item is not known: never a guess. Factors as they are NOW.
-- No lot and no owner are '': stock of the site's own.
SELECT
  e.event_id, e.event_type, e.occurred_at, e.recorded_at, e.source_system, e.order_id, e.order_line, e.document_id, e.reason_code,
  e.site, e.sku, coalesce(e.lot, '') AS lot, e.stock_type, coalesce(e.owner_id, '') AS owner_id,
  CASE
    WHEN e.uom = i.base_uom THEN e.quantity
    ELSE convert_uom(e.quantity, u.numerator, u.denominator, 1, 1)
  END AS quantity,
  i.base_uom, e.quantity AS reported_quantity, e.uom AS reported_uom
FROM events AS e
LEFT JOIN items AS i ON i.sku = e.sku
LEFT JOIN item_uoms AS u ON u.sku = e.sku AND u.uom = e.uom
WHERE e.event_type IN (
  'order.released', 'order.changed', 'order.cancelled', 'stock.allocated', 'pick.confirmed', 'stock.moved', 'stock.counted'
)
