SELECT r.id, s.line
FROM rows AS r
JOIN rows AS s ON s.id = r.id AND s.at BETWEEN r.at AND r.at + INTERVAL '1 day' AND 10 / (s.line - r.line) > 2
