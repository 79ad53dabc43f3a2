SELECT d.key FROM d JOIN e ON d.key = e.key
