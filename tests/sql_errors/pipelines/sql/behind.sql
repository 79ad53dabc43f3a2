SELECT id FROM limited
