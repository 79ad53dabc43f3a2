SELECT a.key, b.note
FROM a
LEFT JOIN b ON a.key = b.key AND b.at <= watermark()
