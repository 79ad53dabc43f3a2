SELECT count(*) AS n FROM a GROUP BY CUBE (key, line, quantity, flag, at, note, upper(key), line + 1, line + 2)
