SELECT count(*) AS rows, sum(quantity) AS total, min(at) AS first, max(note) AS last, bool_and(flag) AS every FROM a
