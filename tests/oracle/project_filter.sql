SELECT key, line + 1 AS line, quantity * 2 AS doubled, coalesce(note, 'none') AS note FROM a WHERE quantity > 0 AND flag
