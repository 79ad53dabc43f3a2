SELECT v.x FROM (VALUES (1), (1 / 0)) AS v(x)
