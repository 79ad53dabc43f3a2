SELECT u.n FROM unnest(make_array(1, 2)) AS u(n)
