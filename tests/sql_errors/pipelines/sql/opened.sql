SELECT id, at AS opened_at FROM rows
