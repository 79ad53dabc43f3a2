SELECT key, line + 2 AS p, 3 - line AS m, line * line AS s, -line AS n, -(line + 1) AS o FROM a WHERE line * 2 < 5
