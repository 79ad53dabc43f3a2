SELECT id
FROM rows
WHERE line > (SELECT max(line) FROM others)
