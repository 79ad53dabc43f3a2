-- limit of the day; now() is not used here
/* random() neither */
SELECT key, 'random()' AS t, random() AS r FROM a
