"""Sites, items and units of measure: what the log has not, by explicit tables."""

import datetime
from decimal import Decimal

from .log import OPENING, VENDOR_MANAGED, WAREHOUSE, sku
from .text import decimal, row

# Two sites with rules of their own: how long the ERP takes to hear of a movement, and whether a pick moves the stock.
SITES = (
    {
        "site": "AAC1", "time_zone": "Europe/Berlin", "cutoff": "12:00:00", "closes_at": "18:00:00",
        "working_days": [1, 2, 3, 4, 5],
        "holidays": ["2019-11-01", "2019-12-25", "2019-12-26", "2020-01-01", "2020-04-10", "2020-04-13"],
        "dispatch_days": 2, "posting_lag": "PT12H", "picks_move_stock": False,
    },
    {
        "site": "EIN1", "time_zone": "Europe/Amsterdam", "cutoff": "13:00:00", "closes_at": "17:00:00",
        "working_days": [1, 2, 3, 4, 5], "holidays": ["2019-12-25", "2019-12-26", "2020-01-01", "2020-04-13"],
        "dispatch_days": 2, "posting_lag": "PT8H", "picks_move_stock": True,
    },
)
SITE = "AAC1"
SITE_OF = dict.fromkeys(("BACK-LIGHT", "BELL", "FRONT-LIGHT", "SPEEDOMETER"), "EIN1")
SITES_WHERE_PICKS_MOVE = {site["site"] for site in SITES if site["picks_move_stock"]}
OWNER_OF_POINT = {WAREHOUSE: None, VENDOR_MANAGED: "PADS"}

# Each site's ERP tells its stock once a week, on Sunday, at this time of day (UTC).
SNAPSHOT_TIMES = {"AAC1": datetime.time(3, 50), "EIN1": datetime.time(4, 27)}

# Cost of one piece in EUR, made up.
UNIT_COSTS = {
    "BACK-LIGHT": "7.30", "BELL": "2.75", "BOX": "0.85", "BRAKE-CABLE-2": "4.20", "BRAKE-SHOES-4": "6.40", "FRONT-LIGHT": "11.60",
    "HANDLES-2": "5.60", "HELMET": "21.50", "PADS-BRAKE-CABLE-2": "4.90", "PADS-BRAKE-SHOES-2": "3.90", "PADS-TIRE": "15.20",
    "PADS-TUBE": "3.60", "PEDAL": "9.80", "SADDLE": "14.40", "SPEEDOMETER": "18.90", "TIRE": "12.90", "TUBE": "3.10",
}

# One of the unit is numerator / denominator of the item's base unit.
ITEM_UOMS = (
    ("BELL", "KG", 1000, 125), ("HANDLES-2", "CT", 10, 1), ("SADDLE", "CT", 10, 1), ("TIRE", "CT", 5, 1), ("TUBE", "CT", 12, 1),
    ("TUBE", "DISPLAY", 36, 1),
)


def site_of(name):
    """Where an item is kept."""
    return SITE_OF.get(name, SITE)


def sites_ndjson():
    """The lines of `sites.ndjson`."""
    return [row(site) for site in SITES]


def item_uoms_ndjson():
    """The lines of `item_uoms.ndjson`; base units have none."""
    columns = ("sku", "uom", "numerator", "denominator")
    return [row(dict(zip(columns, values))) for values in ITEM_UOMS]


def items_ndjson(log):
    """The lines of `items.ndjson`: classes by the value of what was picked (A the first 80 %, B up to 95 %)."""
    picked = dict.fromkeys(map(sku, log.items), Decimal(0))
    for (event, point), quantities in log.changes.items():
        if event != OPENING and point in OWNER_OF_POINT:
            for item, quantity in quantities.items():
                picked[sku(item)] += max(-quantity, 0) * decimal(UNIT_COSTS[sku(item)])
    total, before, rows = sum(picked.values()), Decimal(0), {}
    for name in sorted(picked, key=lambda name: (-picked[name], name)):
        abc_class = "A" if before < total * 80 / 100 else "B" if before < total * 95 / 100 else "C"
        before += picked[name]
        rows[name] = {"sku": name, "abc_class": abc_class, "unit_cost": decimal(UNIT_COSTS[name]), "base_uom": "EA"}
    return [row(rows[name]) for name in sorted(rows)]
