SELECT abs(line, quantity) AS n FROM a
