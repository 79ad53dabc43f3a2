SELECT date_trunc(line, at) AS d FROM a
