SELECT key, last_value(note) OVER (PARTITION BY key ORDER BY at) AS latest FROM a
