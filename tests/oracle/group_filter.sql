SELECT key, line, sum(quantity) FILTER (WHERE flag) AS yes, count(*) FILTER (WHERE NOT flag) AS no, max(at) FILTER (WHERE flag) AS last_yes FROM a GROUP BY key, line
