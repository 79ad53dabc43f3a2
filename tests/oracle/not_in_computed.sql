SELECT key, line FROM a WHERE concat(key, '-', line) NOT IN (SELECT concat(key, '-', line) FROM b WHERE flag AND quantity > 6000)
