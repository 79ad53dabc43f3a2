"""The steps of `scripts/convert_inventory.py`: from the inventory log to the data files of `inventory_reconciliation`."""
