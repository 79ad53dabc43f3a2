SELECT 'größe' AS g, 'ü' || nota AS n FROM a
