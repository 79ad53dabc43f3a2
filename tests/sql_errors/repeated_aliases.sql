SELECT line AS n, quantity AS n FROM a
