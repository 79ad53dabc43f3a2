SELECT key, min(quantity) AS least, max(quantity) AS most, min(at) AS first, max(at) AS last, min(note) AS lowest, max(flag) AS any_flag FROM a GROUP BY key
