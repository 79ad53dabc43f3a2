SELECT key, sum(quantity) AS t, sum(arrow_cast(quantity, 'Decimal64(18, 3)')) AS s FROM a GROUP BY key
