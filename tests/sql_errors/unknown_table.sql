-- one row a key
SELECT key FROM aa
