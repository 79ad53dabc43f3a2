SELECT within_tolerance(note, quantity) AS ok FROM a
