SELECT id, row_number() OVER (PARTITION BY line ORDER BY at, id) AS place
FROM rows
