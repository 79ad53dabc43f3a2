SELECT unnest(unnest(make_array(make_array(line, 1), make_array(2)))) AS n FROM a
