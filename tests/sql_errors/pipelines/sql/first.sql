SELECT id FROM second
