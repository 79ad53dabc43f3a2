SELECT
  id, line, at, CAST(at AS DATE) AS day, id AS text, CAST(line AS DOUBLE) AS ratio, CAST(line AS DECIMAL(10, 2)) AS amount,
  line > 1 AS flag, make_array(id) AS tags, CAST(at AS TIME) AS opens, id AS _hidden
FROM rows
