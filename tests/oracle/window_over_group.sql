SELECT key, sum(quantity) AS total, rank() OVER (ORDER BY sum(quantity) DESC) AS place, sum(sum(quantity)) OVER () AS all_of_it FROM a GROUP BY key
