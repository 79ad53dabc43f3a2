SELECT key, sum(line * (SELECT count(*) FROM b)) AS weighted, count(*) FILTER (WHERE line > (SELECT min(line) FROM c)) AS n FROM a GROUP BY key HAVING count(*) > (SELECT count(*) / 40 FROM b)
