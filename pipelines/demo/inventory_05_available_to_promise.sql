-- title: available to promise, where orders bind stock
SELECT
  site, sku, CAST(on_hand AS BIGINT) AS on_hand, CAST(open_allocated AS BIGINT) AS allocated,
  CAST(released_not_picked AS BIGINT) AS released, CAST(available_to_promise AS BIGINT) AS available_to_promise
FROM available_to_promise
WHERE open_allocated > 0 OR released_not_picked > 0
ORDER BY site, sku
