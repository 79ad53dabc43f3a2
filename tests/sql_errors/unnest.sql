SELECT key, unnest(make_array(line, line + 1)) AS n FROM a
