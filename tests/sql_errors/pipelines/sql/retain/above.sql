SELECT o.id, p.place
FROM partitions AS p
JOIN others AS o ON o.id = p.id
