SELECT key, current_timestamp AS t FROM a
