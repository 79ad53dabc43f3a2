SELECT a.key, b.note
FROM a
LEFT JOIN b ON a.key = b.key AND CASE WHEN a.flag THEN a.at ELSE b.at END <= watermark()
