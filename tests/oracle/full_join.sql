SELECT a.key, a.line, b.key AS other_key, b.at FROM a FULL JOIN b ON a.key = b.key AND a.line = b.line
