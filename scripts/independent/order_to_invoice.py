#!/usr/bin/env python3
"""Works out from the data files what the pipeline `order_to_invoice` must end with, and prints it as JSON.

    scripts/independent/order_to_invoice.py [--data DIR]

It shares nothing with the pipeline but the files it reads: no SQL, no query engine, only the standard library. It reads
`observed.ndjson`, `derived.ndjson` and `injected.ndjson`, merged as the demo sends them, and the reference files, and
recomputes everything once. Quantities and amounts are decimal strings with three places; the order of all lists is fixed.
"""

import argparse
import collections
import csv
import datetime
import json
import pathlib
import sys
from decimal import Decimal

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from reading import accept, instant, merge  # noqa: E402
from rules import Facts, Judge, trigger_key  # noqa: E402
from working_days import dispatch_deadline, local_day  # noqa: E402

EVENT_FILES = ("observed.ndjson", "derived.ndjson", "injected.ndjson")
LATENESS = datetime.timedelta(hours=1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT_DATA = ROOT / "data" / "order_to_invoice"
REASONS = ROOT / "pipelines" / "reference" / "exception_reasons.csv"


class Reference:
    """The master data as they are now, by key."""

    def __init__(self, folder):
        self.order_lines = {(row["order_id"], row["order_line"]): row for row in ndjson(folder / "order_lines.ndjson")}
        for row in self.order_lines.values():
            row["price_per"] = row.get("price_per", Decimal(1))
            row["released_at"] = instant(row["released_at"]) if row.get("released_at") else None
        self.sites = {row["site"]: row for row in ndjson(folder / "sites.ndjson")}
        with open(folder / "customers.csv", encoding="utf-8", newline="") as file:
            self.customers = {row["customer_id"]: customer(row) for row in csv.DictReader(file)}


def ndjson(path):
    """The documents of a file, one a line."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line, parse_float=Decimal) for line in file]


def customer(row):
    """A CSV record with its types; an empty field is `None`."""
    typed = {name: value or None for name, value in row.items()}
    for name in ("credit_hold", "billing_block", "requires_pod", "requires_signature"):
        typed[name] = row[name] == "true"
    for name in ("under_pct", "over_pct", "under_abs", "over_abs", "price_pct"):
        typed[name] = Decimal(row[name]) if row[name] else None
    return typed


def expected(folder):
    """Everything that the pipeline must show after the last event."""
    reference = Reference(folder)
    events, counts = accept(merge([folder / name for name in EVENT_FILES]))
    facts = Facts(events)
    watermark = facts.newest - LATENESS
    judge = Judge(facts, reference.order_lines, reference.customers, watermark)
    return {
        "counts": counts,
        "watermark": watermark.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "validated": {
            trigger_key(key): {
                "basis": line["basis"],
                "quantity": three_places(line["accepted"]),
                "amount": three_places(line["amount"]),
                "currency": reference.order_lines[key[1:]]["currency"],
            }
            for key, line in judge.lines.items()
            if line["validated"]
        },
        "exceptions": {trigger_key(key): line["reasons"] for key, line in judge.lines.items() if line["reasons"]},
        "delivery_lines_by_state": states(facts, judge),
        "kpi_dispatch_sla": dispatch_sla(facts, reference),
        "kpi_invoice_cycle_time": invoice_cycle_time(facts, judge, reference),
        "kpi_integration": integration(counts, folder),
    }


def integration(counts, folder):
    """What became of the events of each source: read, accepted, duplicate, late, dead letters. Reference data are sound."""
    read = {
        "order_lines": len(ndjson(folder / "order_lines.ndjson")),
        "sites": len(ndjson(folder / "sites.ndjson")),
        "customers": records(folder / "customers.csv"),
        "exception_reasons": records(REASONS),
    }
    rows = {source: [count, count, 0, 0, 0] for source, count in read.items()}
    dead_letters = sum(counts["dead_letters"].values())
    rows["milestones"] = [counts["read"], counts["accepted"], counts["duplicate"], 0, dead_letters]
    return dict(sorted(rows.items()))


def records(path):
    """How many records a CSV file holds."""
    with open(path, encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.DictReader(file))


def three_places(value):
    """As decimal(18,3) is written."""
    return f"{value:.3f}"


def posted_invoices(facts):
    """The posted, not cancelled invoices by trigger key; the first one counts."""
    cancelled = {event["document_id"] for event in facts.by_type["invoice.cancelled"]}
    posted = {}
    for event in sorted(facts.by_type["invoice.posted"], key=lambda event: (event["occurred_at"], event["event_id"])):
        if event["document_id"] not in cancelled:
            posted.setdefault(event["trigger_key"], event)
    return posted


def states(facts, judge):
    """How many delivery lines are in which state; an order line that no shipment holds counts as one."""
    posted = posted_invoices(facts)

    def of_order_line(event_type):
        return {(event["order_id"], event["order_line"]) for event in facts.by_type[event_type]}

    cancelled, returned = of_order_line("order.cancelled"), of_order_line("return.received")
    picked, allocated = of_order_line("pick.confirmed"), of_order_line("stock.allocated")
    counts = collections.Counter()
    for key, line in judge.lines.items():
        steps = (
            ("cancelled", key[1:] in cancelled),
            ("returned", key[1:] in returned),
            ("invoiced", trigger_key(key) in posted),
            ("exception", bool(line["reasons"])),
            ("ready_to_invoice", line["validated"]),
            ("delivered", line["proof"] is not None),
            ("in_transit", line["gate_out"] is not None),
            ("dispatched", True),
        )
        counts[next(state for state, holds in steps if holds)] += 1
    for order_line in of_order_line("order.released") - {key[1:] for key in judge.lines}:
        steps = (("cancelled", cancelled), ("picked", picked), ("allocated", allocated), ("released", {order_line}))
        counts[next(state for state, lines in steps if order_line in lines)] += 1
    return dict(sorted(counts.items()))


def dispatch_sla(facts, reference):
    """Per local day and site: order lines gone out by their deadline, of those whose deadline fell in the day.

    A line has gone out when the last quantity that it needs has left. A line that never leaves is a miss.
    """
    departures = collections.defaultdict(list)
    for key, quantity in facts.contents.items():
        moment = facts.first_gate_out(key)
        if moment:
            departures[key[1:]].append((moment, quantity))
    cancelled = {(event["order_id"], event["order_line"]) for event in facts.by_type["order.cancelled"]}
    days = collections.defaultdict(lambda: [0, 0])
    for key, order_line in reference.order_lines.items():
        if key in cancelled or order_line["released_at"] is None:
            continue
        site = reference.sites[order_line["site"]]
        deadline = dispatch_deadline(order_line["released_at"], site)
        gone, left_at = Decimal(0), None
        for moment, quantity in sorted(departures[key]):
            gone += quantity
            if gone >= order_line["quantity"]:
                left_at = moment
                break
        row = days[local_day(deadline, site).isoformat(), site["site"]]
        row[0] += left_at is not None and left_at <= deadline
        row[1] += 1
    return [
        {"day": day, "site": site, "numerator": row[0], "denominator": row[1]}
        for (day, site), row in sorted(days.items())
    ]


def invoice_cycle_time(facts, judge, reference):
    """Per local day of posting: invoices of delivered lines, and the seconds from delivery to posting in sum.

    Delivery is the moment of the last standing proof. Where gate-out is enough, or delivery was confirmed for want of a
    proof, the invoice may precede it: such a line counts with its negative time. A line without a proof has no delivery
    moment and is left out.
    """
    posted = posted_invoices(facts)
    days = collections.defaultdict(lambda: [0, 0])
    for key, line in judge.lines.items():
        invoice = posted.get(trigger_key(key))
        if invoice is None or line["proof"] is None:
            continue
        site = reference.sites[reference.order_lines[key[1:]]["site"]]
        row = days[local_day(invoice["occurred_at"], site).isoformat()]
        row[0] += 1
        row[1] += int((invoice["occurred_at"] - line["proof"]["occurred_at"]).total_seconds())
    return [{"day": day, "count": row[0], "sum_seconds": row[1]} for day, row in sorted(days.items())]


def main():
    """Prints the expected values."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=DEFAULT_DATA, help="the folder of the data files")
    json.dump(expected(parser.parse_args().data), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
