-- stops
SELECT key FROM a WHERE
