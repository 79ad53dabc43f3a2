SELECT quantty, lin FROM a
