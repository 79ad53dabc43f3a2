SELECT id, att FROM rows
