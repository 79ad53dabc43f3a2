UPDATE a SET line = 1
