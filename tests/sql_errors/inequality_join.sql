SELECT a.key, b.note FROM a JOIN b ON a.at < b.at
