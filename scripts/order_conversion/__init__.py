"""The steps of `scripts/convert_orders.py`: from the order log to the data files of `order_to_invoice`."""
