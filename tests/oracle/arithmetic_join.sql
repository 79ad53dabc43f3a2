SELECT a.key, b.note FROM a JOIN b ON a.line + 1 = b.line AND a.key = b.key
