SELECT a.key FROM a JOIN a ON a.line = a.line
