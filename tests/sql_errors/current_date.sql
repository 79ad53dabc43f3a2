SELECT key FROM a WHERE CAST(at AS DATE) = current_date
