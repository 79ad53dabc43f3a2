SELECT DISTINCT key, flag FROM a WHERE line < 3
