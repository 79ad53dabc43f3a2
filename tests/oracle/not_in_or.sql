SELECT key, line FROM a WHERE line NOT IN (SELECT line FROM b WHERE flag AND quantity > 6900) OR key = 'key-1'
