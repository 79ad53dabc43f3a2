SELECT a.key, b.note FROM a CROSS JOIN b
