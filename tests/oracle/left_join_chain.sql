SELECT a.key, a.line, b.note AS b_note, c.note AS c_note FROM a LEFT JOIN b ON a.key = b.key AND a.line = b.line LEFT JOIN c ON b.key = c.key AND b.at = c.at
