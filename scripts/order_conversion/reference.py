"""Master data: what the log has (customers, products, prices), and derived terms, sites and dates."""

import csv
import datetime
import io
from decimal import ROUND_HALF_UP, Decimal

from .log import customer_id
from .text import draw, parse_time, row_text, time_text

CUSTOMER_COLUMNS = (
    "customer_id", "bill_to", "terms", "credit_hold", "billing_block", "requires_pod", "requires_signature", "under_pct",
    "over_pct", "under_abs", "over_abs", "price_pct", "pod_due_after", "auto_confirm_after", "late_tolerance",
)

STANDARD = {
    "terms": "NET30", "credit_hold": "false", "billing_block": "false", "requires_pod": "true",
    "requires_signature": "false", "pod_due_after": "P5D", "price_pct": "1",
}
EXACT = {"under_pct": "0", "over_pct": "0"}
ONE_PIECE = {"under_pct": "2", "over_pct": "2", "under_abs": "1", "over_abs": "1"}

# What differs from STANDARD; a column that neither names is null.
TERMS = {
    "alpentech-innovations-ag": {"billing_block": "true", "under_pct": "5", "over_pct": "5"},
    "balkan-minerals-d-o-o": {"terms": "NET14", "requires_pod": "false", "pod_due_after": ""},
    "baltic-wave-energies-ltd": {"auto_confirm_after": "PT36H", "pod_due_after": "P4D", "under_pct": "2.5"},
    "carpathian-financial-services-plc": {"requires_signature": "true", "late_tolerance": "PT4H"},
    "celtica-green-farms-oy": {"pod_due_after": "PT72H", "under_pct": "10", "over_pct": "10"},
    "danube-pharmaceuticals-bv": {"credit_hold": "true", "terms": "NET60", **EXACT},
    "eastern-oak-insurance-zrt": {"late_tolerance": "P1D"},
    "golden-fleece-textiles-s-a-r-l": {"requires_signature": "true", "under_abs": "1", "over_abs": "1"},
    "iberian-sun-solaridades-sa": {"pod_due_after": "PT24H", "auto_confirm_after": "P2D", "terms": "NET45"},
    "mediterranea-luxury-cruises-s-p-a": {"requires_pod": "false", "terms": "NET10", "pod_due_after": ""},
    "nordica-systems-gmbh": {"late_tolerance": "P2D", **ONE_PIECE},
    "pantheon-art-gallery-kft": {"terms": "", "pod_due_after": "P7D"},
    "riviera-robotics-sas": {"pod_due_after": "P3D", "late_tolerance": "P1D", **ONE_PIECE},
    "swisspeak-timepieces-ag": {"terms": "NET20", **EXACT},
    "vesta-fashion-house-gmbh": {"pod_due_after": "P10D", "under_pct": "3", "over_pct": "3"},
}

SITES = (
    {
        "site": "BER1", "time_zone": "Europe/Berlin", "cutoff": "12:00:00", "closes_at": "18:00:00",
        "working_days": [1, 2, 3, 4, 5],
        "holidays": [
            "2023-04-07", "2023-04-10", "2023-05-01", "2023-05-18", "2023-05-29", "2023-10-03", "2023-12-25", "2023-12-26",
            "2024-01-01", "2024-03-08", "2024-03-29", "2024-04-01", "2024-05-01", "2024-05-09", "2024-05-20",
        ],
        "dispatch_days": 5, "posting_lag": "PT4H", "picks_move_stock": False,
    },
    {
        "site": "CHI1", "time_zone": "America/Chicago", "cutoff": "11:00:00", "closes_at": "17:30:00",
        "working_days": [1, 2, 3, 4, 5],
        "holidays": [
            "2023-05-29", "2023-06-19", "2023-07-04", "2023-09-04", "2023-11-23", "2023-12-25", "2024-01-01", "2024-01-15",
            "2024-05-27",
        ],
        "dispatch_days": 5, "posting_lag": "PT8H", "picks_move_stock": True,
    },
)
CURRENCY_OF_SITE = {"BER1": "EUR", "CHI1": "USD"}
CURRENCY_OF_CUSTOMER = {"swisspeak-timepieces-ag": "CHF", "nordica-systems-gmbh": "JPY"}

# Sold by the ten: unit_price is the price of ten, price_per is 10.
SOLD_BY_TEN = ("FIRE-STICK", "ECHO-DOT")
CHICAGO_CUSTOMERS = 5


class Reference:
    """Derived attributes by customer, and the rows of the reference files."""

    def __init__(self, log):
        self.log = log
        names = sorted({line.customer for line in log.lines.values()})
        seeded = sorted(names, key=lambda name: draw(f"site/{name}", 1 << 32))
        self.site = {name: "CHI1" if name in seeded[:CHICAGO_CUSTOMERS] else "BER1" for name in names}
        self.currency = {
            name: CURRENCY_OF_CUSTOMER.get(customer_id(name), CURRENCY_OF_SITE[self.site[name]]) for name in names
        }
        self.customer_names = names

    def customers_csv(self):
        """`customers.csv`; an empty field is null."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CUSTOMER_COLUMNS)
        for name in self.customer_names:
            row = {"customer_id": customer_id(name), "bill_to": name, **STANDARD, **TERMS[customer_id(name)]}
            writer.writerow([row.get(column, "") for column in CUSTOMER_COLUMNS])
        return text.getvalue()

    def sites_ndjson(self):
        """`sites.ndjson`."""
        return "".join(row_text(site.items()) + "\n" for site in SITES)

    def order_line_rows(self):
        """The rows of `order_lines.ndjson`, by release, order and line."""
        lines = sorted(self.log.lines.values(), key=lambda line: (line.released_at, line.order_id, int(line.order_line)))
        return [self.order_line_row(line) for line in lines]

    def order_line_row(self, line):
        """One row: the log's quantity and price; site, currency and dates derived."""
        price_per = 10 if line.sku in SOLD_BY_TEN else 1
        requested_days = 4 + draw(f"requested/{line.order_id}", 5)
        promised_days = requested_days + draw(f"promised/{line.order_id}", 4)
        return {
            "order_id": line.order_id, "order_line": line.order_line, "customer_id": customer_id(line.customer),
            "sku": line.sku, "site": self.site[line.customer], "quantity": line.quantity, "uom": "EA",
            "unit_price": line.unit_price * price_per, "price_per": price_per,
            "currency": self.currency[line.customer], "released_at": line.released_at,
            "requested_at": business_days_after(line.released_at, requested_days),
            "promised_at": business_days_after(line.released_at, promised_days),
        }

    def items_ndjson(self):
        """`items.ndjson`: classes by turnover (A the first 80 %, B up to 95 %), cost a seeded share of the first price."""
        turnover = dict.fromkeys(self.log.products, Decimal(0))
        for line in self.log.lines.values():
            turnover[line.sku] += line.unit_price * line.quantity
        total, before, rows = sum(turnover.values()), Decimal(0), {}
        for sku in sorted(turnover, key=lambda sku: (-turnover[sku], sku)):
            abc_class = "A" if before < total * 80 / 100 else "B" if before < total * 95 / 100 else "C"
            before += turnover[sku]
            first_price = Decimal(min(self.log.products[sku])[1])
            cost = first_price * (60 + draw(f"cost/{sku}", 21)) / 100
            cost = cost.quantize(Decimal("0.0001"), ROUND_HALF_UP)
            rows[sku] = {"sku": sku, "abc_class": abc_class, "unit_cost": cost, "base_uom": "EA"}
        return "".join(row_text(rows[sku].items()) + "\n" for sku in sorted(rows))


def business_days_after(released_at, days):
    """16:00 UTC on the day that many Mondays to Fridays after a release."""
    day = parse_time(released_at).replace(hour=16, minute=0, second=0)
    while days:
        day += datetime.timedelta(days=1)
        days -= day.isoweekday() <= 5
    return time_text(day)
