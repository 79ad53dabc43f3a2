SELECT key, (SELECT note FROM b ORDER BY at DESC, note LIMIT 1) AS latest FROM a
