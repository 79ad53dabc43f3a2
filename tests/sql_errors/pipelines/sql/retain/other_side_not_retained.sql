SELECT r.id, o.line
FROM rows AS r
JOIN others AS o ON o.id = r.id AND o.at BETWEEN r.at AND r.at + INTERVAL '1 day'
