SELECT m.id FROM master_history AS m
