SELECT key, string_agg(DISTINCT note, '; ' ORDER BY note DESC) AS t, count(*) AS n FROM a GROUP BY key
