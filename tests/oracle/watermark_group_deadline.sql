SELECT key, first, CASE WHEN NOT seen AND first + INTERVAL '3 hours' <= watermark() THEN true ELSE false END AS missed FROM (SELECT key, min(at) AS first, bool_or(flag) AS seen FROM a GROUP BY key)
