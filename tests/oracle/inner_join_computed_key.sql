SELECT a.key, b.note FROM a JOIN b ON upper(a.key) = upper(b.key) AND a.line + 1 = b.line
