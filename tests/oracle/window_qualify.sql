SELECT key, line, at FROM a QUALIFY row_number() OVER (PARTITION BY key, line ORDER BY at DESC NULLS LAST) <= 2
