SELECT id FROM itself
