SELECT key FROM reporting.a
