SELECT a.key, b.line FROM a JOIN b ON a.key = b.key AND a.line + (SELECT count(*) % 2 FROM c) = b.line
