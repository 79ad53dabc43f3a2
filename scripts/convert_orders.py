#!/usr/bin/env python3
"""Converts the order log into the data files of the pipeline `order_to_invoice`.

    scripts/convert_orders.py             writes data/order_to_invoice/ and the table of cases in data/README.md
    scripts/convert_orders.py --check     converts into a temporary folder and compares byte for byte

Input: data/order_management/order-management.json.gz. Output: observed.ndjson, derived.ndjson, injected.ndjson,
order_lines.ndjson, customers.csv, sites.ndjson, items.ndjson. Only the standard library (Python 3.9 or later). What is not in
the log comes from a fixed seed (order_conversion/text.py), so that every run writes the same bytes. data/README.md says
what is observed, derived and injected.
"""

import argparse
import filecmp
import gzip
import json
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "scripts" / "independent"))

from order_conversion.injected import inject  # noqa: E402
from order_conversion.log import OrderLog, customer_id  # noqa: E402
from order_conversion.observed import derived_invoices, observed_events  # noqa: E402
from order_conversion.reference import Reference as DerivedReference  # noqa: E402
from order_conversion.text import event_text, parse_time, row_text  # noqa: E402
from order_to_invoice import EVENT_FILES, LATENESS, Reference, expected  # noqa: E402
from reading import accept, merge  # noqa: E402
from rules import Facts, Judge, trigger_key  # noqa: E402

LOG = ROOT / "data" / "order_management" / "order-management.json.gz"
OUTPUT = ROOT / "data" / "order_to_invoice"
README = ROOT / "data" / "README.md"
TABLE_START, TABLE_END = "<!-- cases: written by scripts/convert_orders.py -->\n", "<!-- end of cases -->\n"


def convert(folder):
    """Writes all files into `folder` and returns the injected cases."""
    folder.mkdir(parents=True, exist_ok=True)
    log = OrderLog(LOG)
    reference = DerivedReference(log)
    write(folder / "customers.csv", reference.customers_csv())
    write(folder / "sites.ndjson", reference.sites_ndjson())
    write(folder / "items.ndjson", reference.items_ndjson())
    write(folder / "order_lines.ndjson", joined(row_text(row.items()) for row in reference.order_line_rows()))

    observed = observed_events(log, reference)
    write(folder / "observed.ndjson", joined(map(event_text, observed)))
    faults = inject(observed, log, lambda package: customer_id(package.customer))
    write(folder / "injected.ndjson", joined(faults.lines()))
    invoices = derive_invoices(folder, faults.settled_at, parse_time(observed[-1]["recorded_at"]))
    write(folder / "derived.ndjson", joined(map(event_text, invoices)))
    return faults.cases


def derive_invoices(folder, settled_at, until):
    """The invoices that follow from the observed and injected events, judged with the reference data as written."""
    reference = Reference(folder)
    events, _ = accept(merge([folder / "observed.ndjson", folder / "injected.ndjson"]))
    facts = Facts(events)
    judge = Judge(facts, reference.order_lines, reference.customers, facts.newest - LATENESS)
    return derived_invoices(judge, reference.order_lines, settled_at, until, trigger_key)


def joined(lines):
    """Lines as the text of a file."""
    return "".join(line + "\n" for line in lines)


def write(path, text):
    """The same bytes on every platform."""
    path.write_bytes(text.encode("utf-8"))


def table(cases):
    """The injected cases in Markdown."""
    rows = [f"| {case.number} | {case.what} | {case.about and f'`{case.about}`'} | {case.outcome} |" for case in cases]
    return joined(["| case | what | delivery line or event | outcome |", "|---|---|---|---|", *rows])


def readme_with(cases):
    """The README with the present table of cases."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(TABLE_START)
    _, after = rest.split(TABLE_END)
    return before + TABLE_START + table(cases) + TABLE_END + after


def unmet(cases, folder):
    """The cases whose outcome the independent computation does not confirm."""
    result = expected(folder)
    events, _ = accept(merge([folder / name for name in EVENT_FILES]))
    present = {event["event_id"] for event in events}
    problems = []
    for case in cases:
        kind, _, detail = case.outcome.partition(": ")
        exception, validated = result["exceptions"].get(case.about), result["validated"].get(case.about)
        if kind == "exception":
            met = exception == detail.split(", ")
        elif kind == "validated":
            met = validated is not None and f"{validated['basis']} {validated['quantity']}" == detail
        else:
            met = case.about in present or not case.about
        if not met:
            problems.append(f"case {case.number}: {case.outcome}, found {exception or validated}")
    dead = sum(case.outcome.startswith("dead letter") for case in cases)
    duplicates = sum(case.outcome == "duplicate" for case in cases)
    counts = result["counts"]
    if (sum(counts["dead_letters"].values()), counts["duplicate"]) != (dead, duplicates):
        problems.append(f"dead letters and duplicates: {counts}")
    return problems


def named_employees(folder):
    """The employees of the log whose names stand in a file: none should."""
    with gzip.open(LOG, "rt", encoding="utf-8") as file:
        names = [entry["id"] for entry in json.load(file)["objects"] if entry["type"] == "employees"]
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()))
    return [f"`{name}` is named" for name in names if name in text]


def check():
    """The files that differ from what the conversion writes now, unmet cases, employees that are named."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        cases = convert(folder)
        written = sorted(path.name for path in folder.iterdir())
        shipped = sorted(path.name for path in OUTPUT.iterdir())
        same, _, _ = filecmp.cmpfiles(folder, OUTPUT, written, shallow=False)
        problems = [f"{name}: differs" for name in sorted({*written, *shipped} - set(same))]
        problems += unmet(cases, folder) + named_employees(folder)
    if readme_with(cases) != README.read_text(encoding="utf-8"):
        problems.append("README.md: the table of cases differs")
    return problems


def main():
    """Converts or checks; exit status 1 where a check fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; compare with what is there")
    if parser.parse_args().check:
        problems = check()
    else:
        cases = convert(OUTPUT)
        README.write_bytes(readme_with(cases).encode("utf-8"))
        problems = unmet(cases, OUTPUT)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
