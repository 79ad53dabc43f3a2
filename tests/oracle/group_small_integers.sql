WITH n AS (
  SELECT key, CAST(line AS SMALLINT) AS s, CAST(line AS SMALLINT UNSIGNED) AS t, CAST(line AS INTEGER UNSIGNED) AS u, CAST(line AS TINYINT) AS v FROM a
)
SELECT key, sum(s) AS s, avg(t) AS m, sum(u) AS u, avg(DISTINCT v) AS d, max(u) AS k FROM n GROUP BY key
