SELECT key,
		quantty
FROM a
