SELECT r.id, s.line
FROM rows AS r
JOIN rows AS s ON s.id = r.id
