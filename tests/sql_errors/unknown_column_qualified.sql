SELECT x.key, x.notes FROM a AS x
