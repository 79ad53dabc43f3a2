SELECT a.key, b.note FROM a LEFT JOIN b ON a.at < b.at
