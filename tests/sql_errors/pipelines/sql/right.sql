SELECT id, at FROM rows
