SELECT id, INTERVAL '1 month' AS term, NULL AS nothing, at - at AS age FROM rows
