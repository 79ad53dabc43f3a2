#!/usr/bin/env python3
"""Works out from the data files what the pipeline `inventory_reconciliation` must end with, and prints it as JSON.

    scripts/independent/inventory_reconciliation.py [--data DIR] [--tolerances FILE]

It shares nothing with the pipeline but the files it reads: no SQL, no query engine, only the standard library. It walks through the
events of each position in time, where the pipeline adds up. Quantities and values are decimal strings with three places; a
position is `site/sku/lot/stock type/owner`.
"""

import argparse
import collections
import csv
import datetime
import json
import pathlib
import sys
from decimal import ROUND_HALF_UP, Decimal, localcontext

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from reading import accept, instant, merge  # noqa: E402
from rules import duration  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT_DATA = ROOT / "data" / "inventory_reconciliation"
DEFAULT_TOLERANCES = ROOT / "pipelines" / "reference" / "abc_tolerances.csv"
EVENT_FILES = ("observed.ndjson", "injected.ndjson")
ERP_FILES = ("erp_stock.ndjson",)
LATENESS = datetime.timedelta(hours=1)
OWN, UNRESTRICTED = "", "unrestricted"
THOUSANDTH = Decimal("0.001")

Position = collections.namedtuple("Position", "site sku lot stock_type owner")
ORDERED, ALLOCATED, PICKED, CANCELLED = ("order.released", "order.changed"), "stock.allocated", "pick.confirmed", "order.cancelled"


class Reference:
    """The master data as they are now, and the ERP's newest snapshot of each site."""

    def __init__(self, folder, tolerances):
        self.items = {row["sku"]: row for row in ndjson(folder / "items.ndjson")}
        self.factors = {
            (row["sku"], row["uom"]): (row["numerator"], row["denominator"]) for row in ndjson(folder / "item_uoms.ndjson")
        }
        self.sites = {row["site"]: row for row in ndjson(folder / "sites.ndjson")}
        with open(tolerances, encoding="utf-8", newline="") as file:
            self.tolerances = {row["abc_class"]: row for row in csv.DictReader(file)}
        self.as_of, self.erp = {}, {}
        for path in ERP_FILES:
            for row in ndjson(folder / path):
                self.take(row)

    def take(self, row):
        """One row of the ERP: the first of a newer snapshot ends the older one, and one of an older snapshot is too late."""
        site, as_of = row["site"], instant(row["as_of"])
        newest = self.as_of.get(site)
        if newest is not None and as_of < newest:
            return
        if newest is None or as_of > newest:
            self.as_of[site] = as_of
            self.erp = {position: held for position, held in self.erp.items() if position.site != site}
        self.erp[Position(site, row["sku"], row["lot"], row["stock_type"], row["owner_id"])] = row

    def in_base_unit(self, sku, quantity, uom):
        """A quantity in the item's base unit; `None` where nobody says what the unit is."""
        if sku in self.items and uom == self.items[sku]["base_uom"]:
            return quantity
        if (sku, uom) not in self.factors:
            return None
        numerator, denominator = self.factors[sku, uom]
        return rounded(quantity * numerator / denominator)


class Step:
    """One movement or count of a position. Steps sort as they count: at one instant the movement comes before the count."""

    def __init__(self, event, quantity, is_count):
        self.at, self.quantity, self.is_count = event["occurred_at"], quantity, is_count
        self.key = (self.at, is_count, event["recorded_at"] or event["occurred_at"], event["event_id"])


def ndjson(path):
    """The documents of a file, one a line, with exact numbers."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line, parse_float=Decimal, parse_int=Decimal) for line in file]


def rounded(value):
    """Three places, half away from zero."""
    with localcontext() as context:
        context.prec = 60
        return Decimal(value).quantize(THOUSANDTH, ROUND_HALF_UP)


def text(value):
    """As decimal(18,3) is written."""
    return None if value is None else f"{rounded(value):.3f}"


def standing(events):
    """The events that happened and were not retracted. A retraction may come first, and is itself final."""
    actual = [event for event in events if event["classifier"] == "ACT"]
    retracted = {event["ref_event_id"] for event in actual if event["event_type"] == "event.retracted"}
    return [event for event in actual if event["event_type"] != "event.retracted" and event["event_id"] not in retracted]


def steps_of_positions(events, reference):
    """The movements and counts of each position, in the order in which they count."""
    steps = collections.defaultdict(list)
    for event in events:
        site = reference.sites.get(event["site"], {})
        pick = event["event_type"] == PICKED and site.get("picks_move_stock", False)
        if pick or event["event_type"] in ("stock.moved", "stock.counted"):
            quantity = reference.in_base_unit(event["sku"], event["quantity"], event["uom"])
            if pick and quantity is not None:
                quantity = -quantity
            position = Position(event["site"], event["sku"], event["lot"] or "", event["stock_type"], event["owner_id"] or OWN)
            steps[position].append(Step(event, quantity, event["event_type"] == "stock.counted"))
    for of_position in steps.values():
        of_position.sort(key=lambda step: step.key)
    return steps


def walk(steps, until=None):
    """The balance after the steps up to a moment, that moment included; what the last count corrected, if anything was counted.

    A quantity in an unknown unit makes the balance unknown until the next count.
    """
    balance, adjustment, counts = Decimal(0), None, 0
    for step in steps:
        if until is not None and step.at > until:
            break
        if step.is_count:
            known = balance is not None and step.quantity is not None
            adjustment = step.quantity - balance if known else None
            balance, counts = step.quantity, counts + 1
        elif balance is not None:
            balance = None if step.quantity is None else balance + step.quantity
    return balance, adjustment, counts


def stock_positions(steps):
    """What lies where."""
    rows = {}
    for position, of_position in steps.items():
        balance, adjustment, counts = walk(of_position)
        rows["/".join(position)] = {"quantity": text(balance), "counts": counts, "adjustment": text(adjustment)}
    return rows


def taken_for_another(reference, sku, warehouse, erp):
    """Whether one side is the other times the factor of one of the item's units."""
    if not warehouse or not erp or warehouse == erp:
        return False
    factors = [factor for (of_sku, _), factor in reference.factors.items() if of_sku == sku]
    return any(
        warehouse * denominator == erp * numerator or warehouse * numerator == erp * denominator
        for numerator, denominator in factors
    )


def in_flight(steps, as_of, lag, difference):
    """Whether the ERP is merely behind: what moved since some instant within the lag is the difference. Counts move nothing."""
    if lag is None:
        return False
    recent = [step for step in steps if not step.is_count and as_of - lag <= step.at <= as_of]
    return any(
        sum(step.quantity or 0 for step in recent if step.at >= instant_) == difference
        for instant_ in {step.at for step in recent}
    )


def compare(steps, reference):
    """Each position of a site's own stock on both sides, as of the ERP's moment; what neither side has is left out."""
    rows = {}
    for position in {*steps, *reference.erp}:
        if position.owner != OWN or position.site not in reference.as_of:
            continue
        as_of = reference.as_of[position.site]
        of_position = [step for step in steps.get(position, []) if step.at <= as_of]
        held = reference.erp.get(position)
        warehouse = walk(of_position)[0] if of_position else None
        erp = None if held is None else held["quantity"]
        known = warehouse is not None or not of_position
        difference = (warehouse or 0) - (erp or 0) if known else None
        if (not of_position or held is None) and difference == 0:
            continue
        lag = duration(reference.sites.get(position.site, {}).get("posting_lag"))
        rows[position] = {
            "in_warehouse": bool(of_position), "in_erp": held is not None, "warehouse": warehouse, "erp": erp, "difference": difference,
            "units": difference is None or taken_for_another(reference, position.sku, warehouse, erp),
            "timing": bool(difference) and in_flight(of_position, as_of, lag, difference),
        }
    return rows


def classify(rows):
    """Each position's class, the first that holds.

    Reading: a difference that a unit or timing explains does not enter the netting over stock types; what nets there does not
    enter that over lots. A position that one side has not enters both, as the other end of what was moved.
    """

    def rest(row):
        return 0 if row["units"] or (row["timing"] and row["in_warehouse"] and row["in_erp"]) else row["difference"]

    over_stock_types, over_lots = collections.Counter(), collections.Counter()
    for position, row in rows.items():
        over_stock_types[position.site, position.sku, position.lot] += rest(row)
    for position, row in rows.items():
        row["swapped_type"] = over_stock_types[position.site, position.sku, position.lot] == 0
        over_lots[position.site, position.sku, position.stock_type] += 0 if row["swapped_type"] else rest(row)
    for position, row in rows.items():
        checks = (
            ("UOM_MISMATCH", row["units"]),
            ("MISSING_IN_ERP", not row["in_erp"]),
            ("MISSING_IN_WMS", not row["in_warehouse"]),
            ("NEGATIVE_STOCK", (row["warehouse"] or 0) < 0 or (row["erp"] or 0) < 0),
            ("MATCH", row["difference"] == 0),
            ("TIMING", row["timing"]),
            ("STOCK_TYPE", row["swapped_type"]),
            ("LOT_SWAP", over_lots[position.site, position.sku, position.stock_type] == 0),
            ("TRUE_VARIANCE", True),
        )
        row["class"] = next(name for name, holds in checks if holds)


def tolerable(reference, sku, row):
    """Reading: the ERP's quantity against the warehouse's, which leads. Without a class only what is equal passes."""
    if row["units"]:
        return False
    if row["difference"] == 0:
        return True
    limits = reference.tolerances.get(reference.items.get(sku, {}).get("abc_class"), {})
    side = "under" if row["difference"] > 0 else "over"
    percent, absolute = limits.get(f"{side}_pct"), limits.get(f"{side}_abs")
    distance, base = abs(row["difference"]), abs(row["warehouse"] or 0)
    return bool(percent and distance * 100 <= base * Decimal(percent)) or bool(absolute and distance <= Decimal(absolute))


def reconciliation(rows, reference):
    """The published rows, the sums by site and class, and the accuracy by site and class of the items."""
    published, differences, accuracy = {}, {}, {}
    for position, row in rows.items():
        item = reference.items.get(position.sku, {})
        cost = item.get("unit_cost")
        value = None if cost is None or row["difference"] is None else rounded(row["difference"] * cost)
        inside = tolerable(reference, position.sku, row)
        published["/".join(position[:4])] = {
            "class": row["class"], "warehouse_quantity": text(row["warehouse"]), "erp_quantity": text(row["erp"]),
            "difference": text(row["difference"]), "difference_value": text(value), "within_tolerance": inside,
        }
        of_class = differences.setdefault(f"{position.site}/{row['class']}", collections.Counter())
        of_items = accuracy.setdefault(f"{position.site}/{item.get('abc_class', '')}", collections.Counter())
        for sums in (of_class, of_items):
            sums.update({"positions": 1, "within_tolerance": int(inside)})
            sums.update({"gross": abs(row["difference"] or 0), "gross_value": abs(value or 0)})
            sums["net"] += row["difference"] or 0
            sums["net_value"] += value or 0

    def shown(sums):
        exact = ("positions", "within_tolerance")
        return {name: sums[name] if name in exact else text(sums[name]) for name in sorted(sums)}

    return published, {key: shown(sums) for key, sums in differences.items()}, {key: shown(sums) for key, sums in accuracy.items()}


def commitments(events, reference):
    """What each order line still binds, by (site, sku): open allocations, and what is released and not picked."""
    lines = collections.defaultdict(list)
    for event in events:
        if event["event_type"] in (*ORDERED, ALLOCATED, PICKED, CANCELLED):
            lines[event["order_id"], event["order_line"]].append(event)
    bound = collections.defaultdict(lambda: [Decimal(0), Decimal(0)])
    for of_line in lines.values():
        of_line.sort(key=lambda event: (event["occurred_at"], event["recorded_at"] or event["occurred_at"], event["event_id"]))
        row = bound[of_line[-1]["site"], of_line[-1]["sku"]]
        if any(event["event_type"] == CANCELLED for event in of_line):
            continue
        ordered = allocated = picked = Decimal(0)
        for event in of_line:
            quantity = reference.in_base_unit(event["sku"], event["quantity"], event["uom"]) or Decimal(0)
            if event["event_type"] in ORDERED:
                # Reading: a change says the whole quantity that is ordered from then on.
                ordered = quantity
            elif event["event_type"] == ALLOCATED:
                allocated += quantity
            else:
                picked += quantity
        row[0] += max(allocated - picked, 0)
        row[1] += max(ordered - max(allocated, picked), 0)
    return bound


def available_to_promise(steps, bound):
    """Reading: unrestricted stock of all lots and owners counts, also that of vendors, for orders are served from it."""
    on_hand = collections.Counter()
    for position, of_position in steps.items():
        if position.stock_type == UNRESTRICTED:
            on_hand[position.site, position.sku] += walk(of_position)[0] or 0
    rows = {}
    for key in {*on_hand, *bound}:
        allocated, released = bound[key] if key in bound else (0, 0)
        rows["/".join(key)] = {
            "on_hand": text(on_hand[key]), "open_allocated": text(allocated), "released_not_picked": text(released),
            "available_to_promise": text(on_hand[key] - allocated - released),
        }
    return rows


def expected(folder, tolerances=DEFAULT_TOLERANCES):
    """Everything that the pipeline must show after the last event."""
    reference = Reference(folder, tolerances)
    events, counts = accept(merge([folder / name for name in EVENT_FILES]))
    return worked_out(events, counts, reference)


def worked_out(events, counts, reference):
    """The same from accepted events."""
    facts = standing(events)
    newest = max(event["occurred_at"] for event in events if event["classifier"] == "ACT")
    steps = steps_of_positions(facts, reference)
    rows = compare(steps, reference)
    classify(rows)
    published, differences, accuracy = reconciliation(rows, reference)
    return {
        "counts": counts,
        "watermark": (newest - LATENESS).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "stock_position": in_order(stock_positions(steps)),
        "inventory_reconciliation": in_order(published),
        "inventory_differences": in_order(differences),
        "kpi_inventory_accuracy": in_order(accuracy),
        "available_to_promise": in_order(available_to_promise(steps, commitments(facts, reference))),
    }


def in_order(rows):
    """By key."""
    return {key: rows[key] for key in sorted(rows)}


def main():
    """Prints the expected values."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=DEFAULT_DATA, help="the folder of the data files")
    parser.add_argument("--tolerances", type=pathlib.Path, default=DEFAULT_TOLERANCES, help="limits by class, CSV")
    arguments = parser.parse_args()
    json.dump(expected(arguments.data, arguments.tolerances), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
