SELECT line, median(line) AS middle
FROM rows
GROUP BY line
