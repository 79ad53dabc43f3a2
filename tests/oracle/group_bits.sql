SELECT key, bit_and(line) AS a, bit_or(line + 4) AS o, bit_xor(line) AS x, bit_xor(DISTINCT line) AS d, bit_or(line) FILTER (WHERE flag) AS f FROM a GROUP BY key
