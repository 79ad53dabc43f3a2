SELECT key, bool_and(flag) AS every, bool_or(flag) AS some, bool_or(quantity > 3) FILTER (WHERE line > 0) AS big FROM a GROUP BY key
