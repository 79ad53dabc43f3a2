SELECT r.id FROM rows_history AS r
