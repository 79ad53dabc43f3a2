WITH RECURSIVE r AS (SELECT key, line FROM a UNION ALL SELECT key, line + 1 FROM r WHERE line < 9)
SELECT key, line FROM r
