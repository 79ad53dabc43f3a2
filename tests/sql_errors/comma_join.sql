SELECT a.key, b.note FROM a, b
