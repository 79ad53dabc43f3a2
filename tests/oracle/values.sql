SELECT a.key, v.name FROM a JOIN (VALUES (1, 'one'), (2, 'two'), (2, 'deux')) AS v (line, name) ON a.line = v.line
