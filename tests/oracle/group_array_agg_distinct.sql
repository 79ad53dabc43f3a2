SELECT key, array_agg(DISTINCT line ORDER BY line DESC) AS l, array_agg(DISTINCT note ORDER BY note) FILTER (WHERE flag) AS n FROM a GROUP BY key
