"""Reads what the pipeline `inventory_reconciliation` left, as its readers do, and compares it with expected values.

    check_inventory_reconciliation.py NATS_URL FOLDER EXPECTED COUNTED

FOLDER holds the Parquet tables, EXPECTED is what scripts/independent/inventory_reconciliation.py prints, and COUNTED is JSON: the
pipeline's status, and its dead letters by rule. Ends with status 1, and says where, if anything differs.
"""

from tables import arguments, check_counts, check_freshness, check_integration, differ, table, verdict

# Each table, the columns that name a row, and the columns that are compared under the names that EXPECTED has for them.
TABLES = {
    "stock_position": (
        ("site", "sku", "lot", "stock_type", "owner_id"), {name: name for name in ("quantity", "counts", "adjustment")},
    ),
    "inventory_reconciliation": (
        ("site", "sku", "lot", "stock_type"),
        {
            name: name
            for name in (
                "class", "warehouse_quantity", "erp_quantity", "difference", "difference_value", "within_tolerance",
            )
        },
    ),
    "inventory_differences": (
        ("site", "class"),
        {
            "positions": "positions", "positions_within_tolerance": "within_tolerance", "surplus": "surplus", "shortage": "shortage",
            "gross": "gross", "net": "net", "gross_value": "gross_value", "net_value": "net_value",
        },
    ),
    "kpi/inventory_accuracy": (
        ("site", "abc_class"),
        {
            "positions_compared": "positions", "positions_within_tolerance": "within_tolerance", "gross": "gross", "net": "net",
            "gross_value": "gross_value", "net_value": "net_value",
        },
    ),
    "available_to_promise": (
        ("site", "sku"),
        {name: name for name in ("on_hand", "open_allocated", "released_not_picked", "available_to_promise")},
    ),
}


def main():
    _, folder, expected, counted = arguments()
    check_counts(counted, expected)
    for name, (key, columns) in TABLES.items():
        rows = table(folder, name)
        found = {"/".join(row[part] for part in key): {new: row[old] for old, new in columns.items()} for row in rows}
        differ(f"{name}: rows with a key of their own", len(found), len(rows))
        differ(name, found, expected[name.replace("kpi/", "kpi_")])
        if name.startswith("kpi/"):
            differ(f"{name}: complete", {row["is_complete"] for row in rows}, {True})
    check_integration(folder, "kpi/inventory_integration", expected)
    check_freshness(folder, "kpi/inventory_freshness", "inventory_reconciliation", counted, expected)
    verdict()


if __name__ == "__main__":
    main()
