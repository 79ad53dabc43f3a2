-- closes the circle
SELECT id FROM first
