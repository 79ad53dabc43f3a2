SELECT sum(count(*)) AS n FROM a GROUP BY key
