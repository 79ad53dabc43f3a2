SELECT y.key FROM a AS x
