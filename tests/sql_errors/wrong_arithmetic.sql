SELECT flag + at AS n FROM a
