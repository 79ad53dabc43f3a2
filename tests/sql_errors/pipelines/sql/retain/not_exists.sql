SELECT r.id
FROM rows AS r
WHERE NOT EXISTS (SELECT 1 FROM rows AS s WHERE s.line = r.line AND s.id <> r.id)
