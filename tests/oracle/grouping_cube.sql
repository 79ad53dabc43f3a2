SELECT key, line, sum(quantity) AS s, first_value(note ORDER BY at) AS f FROM a GROUP BY CUBE (key, line) HAVING count(*) > 1
