SELECT key, unnest(make_array(line, line + 1)) AS l, unnest(string_to_array(key, '-')) AS k FROM a
