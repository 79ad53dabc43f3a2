#!/usr/bin/env python3
"""Converts the inventory log into the data files of the pipeline `inventory_reconciliation`.

    scripts/convert_inventory.py             writes data/inventory_reconciliation/ and the table of cases in data/README.md
    scripts/convert_inventory.py --check     converts into a temporary folder and compares byte for byte

Input: data/inventory_run/qel_inventory_run_a.sqlite.gz. Output: observed.ndjson, injected.ndjson, injected_cases.json, erp_stock.ndjson,
items.ndjson, item_uoms.ndjson, sites.ndjson. Only the standard library (Python 3.9 or later). What is not in the log is derived,
or injected by a fixed seed, so that every run writes the same bytes. data/README.md says what is what.
"""

import argparse
import filecmp
import gzip
import json
import pathlib
import sqlite3
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "scripts" / "independent"))

from inventory_conversion import reference  # noqa: E402
from inventory_conversion.derived import Ledger, erp_stock_ndjson, erp_stock_rows  # noqa: E402
from inventory_conversion.injected import inject  # noqa: E402
from inventory_conversion.log import LEDGER, OPENING, VENDOR_MANAGED, WAREHOUSE, InventoryLog, sku  # noqa: E402
from inventory_conversion.observed import observed_events  # noqa: E402
from inventory_conversion.text import event_text, time_text  # noqa: E402
from inventory_reconciliation import EVENT_FILES, Reference, expected, text, worked_out  # noqa: E402
from reading import accept, merge  # noqa: E402

LOG = ROOT / "data" / "inventory_run" / "qel_inventory_run_a.sqlite.gz"
OUTPUT = ROOT / "data" / "inventory_reconciliation"
README = ROOT / "data" / "README.md"
TABLE_START, TABLE_END = "<!-- cases: written by scripts/convert_inventory.py -->\n", "<!-- end of inventory cases -->\n"


def convert(folder):
    """Writes all files into `folder` and returns what they were made from: the log and the injected cases."""
    folder.mkdir(parents=True, exist_ok=True)
    log = InventoryLog(LOG)
    write(folder / "sites.ndjson", reference.sites_ndjson())
    write(folder / "items.ndjson", reference.items_ndjson(log))
    write(folder / "item_uoms.ndjson", reference.item_uoms_ndjson())
    observed = observed_events(log)
    write(folder / "observed.ndjson", map(event_text, observed))
    ledger = Ledger(log)
    faults = inject(observed, ledger.snapshots())
    write(folder / "injected.ndjson", faults.lines())
    write(folder / "erp_stock.ndjson", erp_stock_ndjson(erp_stock_rows(ledger)) + faults.erp_lines())
    write(folder / "injected_cases.json", [manifest(faults)])
    return log, faults


def write(path, lines):
    """The same bytes on every platform."""
    path.write_bytes("".join(line + "\n" for line in lines).encode("utf-8"))


def manifest(faults):
    """The cases for machines: by number, what each is, and what must come of which position or message."""

    def position(outcome):
        return {
            "site": outcome.site, "sku": outcome.sku, "lot": outcome.lot, "stock_type": outcome.stock_type, "owner_id": outcome.owner_id,
            "class": outcome.class_, "warehouse_quantity": three_places(outcome.warehouse), "erp_quantity": three_places(outcome.erp),
            "within_tolerance": outcome.within_tolerance,
        }

    cases = [
        {"case": case.number, "what": case.what, "message": case.message or None, "positions": list(map(position, case.outcomes))}
        for case in faults.cases
    ]
    as_of = {site: time_text(moment) for site, moment in sorted(faults.as_of.items())}
    return json.dumps({"as_of": as_of, "cases": cases}, indent=1, ensure_ascii=False)


def three_places(value):
    """As decimal(18,3) is written."""
    return None if value is None else text(value)


def table(cases):
    """The injected cases in Markdown."""
    rows = [f"| {case.number} | {case.what} | {'<br>'.join(map(place, case.outcomes))} | {outcome(case)} |" for case in cases]
    return "".join(line + "\n" for line in ["| case | what | position | outcome |", "|---|---|---|---|", *rows])


def place(result):
    """A position as the table shows it: what is not said is the site's own, unrestricted, without a lot."""
    parts = [result.site, result.sku, result.lot, "" if result.stock_type == "unrestricted" else result.stock_type, result.owner_id]
    return f"`{' '.join(part for part in parts if part)}`"


def outcome(case):
    """What must come of a case: class, warehouse against ERP; a message's fate."""

    def of_position(result):
        if result.class_ is None:
            return "not compared"
        sides = ("?" if side is None else str(side) for side in (result.warehouse, result.erp))
        tolerated = ", tolerated" if result.within_tolerance and result.class_ != "MATCH" else ""
        return f"{result.class_} {' : '.join(sides)}{tolerated}"

    return "<br>".join([*map(of_position, case.outcomes), *([case.message] if case.message else [])])


def readme_with(cases):
    """The README with the present table of cases."""
    before, rest = README.read_text(encoding="utf-8").split(TABLE_START)
    _, after = rest.split(TABLE_END)
    return before + TABLE_START + table(cases) + TABLE_END + after


def unmet(faults, folder):
    """The cases whose outcome the independent computation does not confirm, and positions that differ without a case."""
    result = expected(folder)
    rows, problems, told = result["inventory_reconciliation"], [], set()
    for case in faults.cases:
        for outcome_ in case.outcomes:
            key = "/".join(outcome_[:4])
            told.add(key)
            row = None if outcome_.owner_id else rows.get(key)
            found = row and (row["class"], row["warehouse_quantity"], row["erp_quantity"], row["within_tolerance"])
            wanted = (outcome_.class_, three_places(outcome_.warehouse), three_places(outcome_.erp), outcome_.within_tolerance)
            if found != (None if outcome_.class_ is None else wanted):
                problems.append(f"case {case.number}: {key}: {wanted}, found {found}")
    invented = [key for key, row in rows.items() if key not in told and row["class"] not in ("MATCH", "TIMING")]
    problems += [f"{key}: {rows[key]['class']} without a case" for key in invented]
    messages = [case.message for case in faults.cases if case.message]
    dead = sum(message.startswith("dead letter") for message in messages)
    counts = result["counts"]
    if (sum(counts["dead_letters"].values()), counts["duplicate"]) != (dead, len(messages) - dead):
        problems.append(f"dead letters and duplicates: {counts}")
    return problems


def unexplained(log, folder):
    """Snapshots of the derived ERP stock that the observed movements don't explain, and differences of the ledger.

    At the end of the log, the ledger is what may be promised, plus what is still to come from suppliers.
    """
    events, counts = accept(merge([folder / EVENT_FILES[0]]))
    ledger, problems = Ledger(log), []
    data = Reference(folder, ROOT / "pipelines" / "reference" / "abc_tolerances.csv")
    rows = erp_stock_rows(ledger)
    data.as_of, data.erp = {}, {}
    for moment in sorted({row["as_of"] for row in rows}):
        for row in rows:
            if row["as_of"] == moment:
                data.take({**row, "as_of": time_text(moment)})
        for key, row in worked_out(events, counts, data)["inventory_reconciliation"].items():
            if row["class"] not in ("MATCH", "TIMING"):
                problems.append(f"{key} as of {time_text(moment)}: {row}")
    promised = worked_out(events, counts, data)["available_to_promise"]
    to_come = {}
    for event in log.inbound_orders:
        for item, quantity in log.change(event.event_id, LEDGER).items():
            to_come[item] = to_come.get(item, 0) + quantity
    for receipt in log.receipts:
        for item, quantity in log.change(receipt.event.event_id, WAREHOUSE).items():
            to_come[item] -= quantity
    for item, account in ledger.at(ledger.ends_at).items():
        name = sku(item)
        found = promised[f"{reference.site_of(name)}/{name}"]["available_to_promise"]
        if text(account["planned"] - to_come.get(item, 0)) != found:
            problems.append(f"{name}: the ledger has {account}, to come {to_come.get(item, 0)}, may be promised {found}")
    if any(log.change(event, VENDOR_MANAGED).keys() & log.change(OPENING, LEDGER).keys() for event in log.times):
        problems.append("vendor-owned stock has a planning side")
    return problems


def untrue(log):
    """What data/README.md tells of the planning ledger and is not so."""
    first_picks, second_picks = {}, set()
    for pick in log.picks:
        if first_picks.setdefault(pick.order_id, pick) is not pick:
            second_picks.add(pick.order_id)
    more = {pick.order_id: log.change(pick.event.event_id, LEDGER) for pick in log.picks if log.change(pick.event.event_id, LEDGER)}
    of_first = {order for order, pick in first_picks.items() if log.change(pick.event.event_id, LEDGER)}
    below, falls, balances = set(), [], {}
    for _, item, account, quantity in sorted(Ledger(log).postings):
        if account == "planned":
            balances[item] = balances.get(item, 0) + quantity
            if balances[item] < 0 and item not in below:
                below.add(item)
                falls.append(item)
            elif balances[item] >= 0:
                below.discard(item)
    physical, lowest = {}, 0
    for event, point in sorted(log.changes, key=lambda key: log.times.get(key[0], log.opened_at)):
        if point != LEDGER:
            for item, quantity in log.change(event, point).items():
                physical[point, item] = physical.get((point, item), 0) + quantity
                lowest = min(lowest, physical[point, item])
    told = {
        "70 picks take a box more, all in the first of two": len(more) == 70
        and all(change == {"Box": -1} for change in more.values()) and of_first == second_picks == set(more),
        "four falls below zero, all of one item": falls == ["Brake Cable (2)"] * 4,
        "physical stock never below zero": lowest == 0,
        "cancelled orders never touch the ledger": not any(
            log.change(order.register.event_id, LEDGER) for order in log.orders if order.cancel
        ),
    }
    return [f"not so: {claim}" for claim, holds in told.items() if not holds]


def named_employees(folder):
    """The employees of the log whose names stand in a file: none should."""
    with tempfile.TemporaryDirectory() as name:
        database = pathlib.Path(name) / "log.sqlite"
        with gzip.open(LOG, "rb") as file:
            database.write_bytes(file.read())
        connection = sqlite3.connect(database)
        tables = ("object_AdministrativeEmployees", "object_WarehouseEmployees")
        names = [row[0] for table_ in tables for row in connection.execute(f"SELECT resource_name FROM {table_}")]
        connection.close()
    written = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()))
    return [f"`{name}` is named" for name in names if name in written]


def check():
    """The files that differ from what the conversion writes now, unmet cases, what is not explained, employees that are named."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        log, faults = convert(folder)
        written = sorted(path.name for path in folder.iterdir())
        shipped = sorted(path.name for path in OUTPUT.iterdir())
        same, _, _ = filecmp.cmpfiles(folder, OUTPUT, written, shallow=False)
        problems = [f"{name}: differs" for name in sorted({*written, *shipped} - set(same))]
        problems += unmet(faults, folder) + unexplained(log, folder) + untrue(log) + named_employees(folder)
    if readme_with(faults.cases) != README.read_text(encoding="utf-8"):
        problems.append("README.md: the table of cases differs")
    return problems


def main():
    """Converts or checks; exit status 1 where a check fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; compare with what is there")
    if parser.parse_args().check:
        problems = check()
    else:
        log, faults = convert(OUTPUT)
        README.write_bytes(readme_with(faults.cases).encode("utf-8"))
        problems = unmet(faults, OUTPUT) + unexplained(log, OUTPUT)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
