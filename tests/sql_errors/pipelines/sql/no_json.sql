SELECT id, map(['a'], [line]) AS parts FROM rows
