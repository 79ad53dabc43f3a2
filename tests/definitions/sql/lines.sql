-- grain: one row an order line
SELECT order_id, order_line, quantity FROM order_lines
