SELECT r.id, m.line
FROM rows AS r
LEFT JOIN master AS m ON m.id = r.id AND m.at >= r.at
