SELECT id
FROM rows
WHERE id NOT IN (SELECT id FROM master)
