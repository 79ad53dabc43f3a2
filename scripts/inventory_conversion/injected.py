"""Faults, and events that look like faults, on top of what is observed and derived: events and ERP rows of their own.

Nearly every case has a lot of its own, so that it can be found, and found only there. Each says what must come of it;
`convert_inventory.py` writes the cases to `injected_cases.json` and as a table into `data/README.md`, and checks them.
"""

import collections
import datetime

from .text import decimal, draw, event_text, row, time_text

SOURCE = "injected"
HOUR, SECOND = datetime.timedelta(hours=1), datetime.timedelta(seconds=1)
AAC1, EIN1 = "AAC1", "EIN1"

# What comes of a position: its class, both quantities (None: unknown or not there), whether the difference is tolerable. The class
# None says that the position is not compared.
Outcome = collections.namedtuple("Outcome", "site sku lot stock_type owner_id class_ warehouse erp within_tolerance")
Case = collections.namedtuple("Case", "number what outcomes message")


class Faults:
    """Builds the injected events and ERP rows, case by case."""

    def __init__(self, observed, snapshots):
        self.observed = observed
        self.as_of, self.before = {}, {}
        for site, as_of in snapshots:
            self.before[site], self.as_of[site] = self.as_of.get(site), as_of
        # Long enough before the snapshots that no lag reaches it.
        self.booked = min(self.as_of.values()).replace(hour=8, minute=0) - datetime.timedelta(days=5)
        self.cases, self.rows, self.erp_rows = [], [], []
        self.number, self.letters, self.outcomes = "", 0, []

    def case(self, what, *positions, message=""):
        """Begins a case; `positions` are its places."""
        self.number, self.letters, self.outcomes = f"{len(self.cases) + 1:02}", 0, []
        self.cases.append(Case(self.number, what, self.outcomes, message))
        made = [Position(self, *place) for place in positions]
        return made[0] if len(made) == 1 else made

    def event(self, event_type, occurred_at, **fields):
        """Adds an event of the present case, recorded when it happened unless it says otherwise."""
        self.letters += 1
        event = {
            "event_id": f"inj-{self.number}{chr(ord('a') + self.letters - 1)}", "event_type": event_type, "occurred_at": occurred_at,
            "recorded_at": occurred_at, "source_system": SOURCE, **fields,
        }
        self.rows.append(event)
        return event

    def balance(self, site, sku, moment):
        """What the log's own movements leave of an unlotted item up to a moment, that moment included."""
        total = 0
        for event in self.observed:
            if (event["site"], event["sku"]) == (site, sku) and event["occurred_at"] <= moment:
                if event["event_type"] in ("stock.counted", "stock.moved"):
                    total += event["quantity"]
                elif event["event_type"] == "pick.confirmed" and site == EIN1:
                    total -= event["quantity"]
        return total

    def lines(self):
        """The injected lines by `recorded_at`, then in the order of the cases; the malformed ones come last."""
        rows = sorted(enumerate(self.rows), key=lambda item: (item[1]["recorded_at"], item[0]))
        return [event_text(event) for _, event in rows] + malformed(self)

    def erp_lines(self):
        """The injected ERP rows."""
        return [row(fields) for fields in sorted(self.erp_rows, key=lambda fields: fields["as_of"])]


class Position:
    """A place of stock, and what is said about it."""

    def __init__(self, faults, site, sku, suffix="", stock_type="unrestricted", owner_id="", lot=None):
        self.faults, self.site, self.sku, self.stock_type, self.owner_id = faults, site, sku, stock_type, owner_id
        self.lot = f"LOT-{faults.number}{suffix}" if lot is None else lot
        self.as_of = faults.as_of[site]

    def fields(self):
        """The place as an event says it; defaults are left out."""
        stock_type = None if self.stock_type == "unrestricted" else self.stock_type
        return {"site": self.site, "sku": self.sku, "lot": self.lot or None, "owner_id": self.owner_id or None, "stock_type": stock_type}

    def moved(self, quantity, at=None, **other):
        """A movement, before everything unless it says when."""
        return self.faults.event("stock.moved", at or self.faults.booked, **self.fields(), **{"quantity": quantity, **other})

    def counted(self, quantity, at=None, **other):
        """A count."""
        return self.faults.event("stock.counted", at or self.faults.booked, **self.fields(), **{"quantity": quantity, **other})

    def erp(self, quantity, as_of=None):
        """What the ERP says in its newest snapshot, or in another one."""
        self.faults.erp_rows.append({
            "site": self.site, "sku": self.sku, "lot": self.lot, "stock_type": self.stock_type, "owner_id": self.owner_id,
            "quantity": quantity, "as_of": as_of or self.as_of, "source_system": SOURCE,
        })
        return self

    def becomes(self, class_, warehouse=None, erp=None, within_tolerance=None):
        """What must come of it; without a verdict on the tolerance: inside where both sides are the same."""
        if within_tolerance is None and class_ is not None:
            within_tolerance = warehouse is not None and warehouse == erp
        self.faults.outcomes.append(Outcome(
            self.site, self.sku, self.lot, self.stock_type, self.owner_id, class_, warehouse, erp, within_tolerance
        ))

    def matches(self, quantity):
        """Both sides say this."""
        self.becomes("MATCH", quantity, quantity)


def inject(observed, snapshots):
    """All cases."""
    faults = Faults(observed, snapshots)
    add_units(faults)
    add_missing(faults)
    add_negative(faults)
    add_timing(faults)
    add_swaps(faults)
    add_variances(faults)
    add_counts(faults)
    add_messages(faults)
    add_places(faults)
    add_commitments(faults)
    return faults


def add_units(faults):
    """Units of measure: taken one for another, unknown, converted."""
    place = faults.case("4 cartons of 12 received; the ERP took cartons for pieces", (AAC1, "TUBE"))
    place.moved(4, uom="CT")
    place.erp(4).becomes("UOM_MISMATCH", 48, 4)
    place = faults.case("6 cartons of 10 received; the warehouse took cartons for pieces", (AAC1, "HANDLES-2"))
    place.moved(6)
    place.erp(60).becomes("UOM_MISMATCH", 6, 60)
    place = faults.case("2 pallets received, a unit that the item has not", (AAC1, "HELMET"))
    place.moved(2, uom="PAL")
    place.erp(80).becomes("UOM_MISMATCH", None, 80)
    place = faults.case("3 cartons of 10 received, 7 pieces issued", (AAC1, "SADDLE"))
    place.moved(3, uom="CT")
    place.moved(-7, faults.booked + HOUR)
    place.erp(23).matches(23)
    place = faults.case("2.5 kg received, at 1000 pieces per 125 kg", (EIN1, "BELL"))
    place.moved(decimal("2.5"), uom="KG")
    place.erp(20).matches(20)
    place = faults.case("2 cartons of 5 counted", (AAC1, "TIRE"))
    place.moved(9)
    place.counted(2, faults.booked + HOUR, uom="CT")
    place.erp(10).matches(10)


def add_missing(faults):
    """Positions of one side only."""
    place = faults.case("a lot received and never posted", (AAC1, "TIRE"))
    place.moved(8)
    place.becomes("MISSING_IN_ERP", 8)
    place = faults.case("a lot that the ERP's last snapshot still had and the newest leaves out", (AAC1, "SADDLE"))
    place.moved(4, faults.before[AAC1] - HOUR)
    place.erp(4, faults.before[AAC1]).becomes("MISSING_IN_ERP", 4)
    place = faults.case("a lot that the warehouse never saw", (AAC1, "HANDLES-2"))
    place.erp(6).becomes("MISSING_IN_WMS", None, 6)
    place = faults.case("a lot used up, which the newest snapshot leaves out", (AAC1, "PEDAL"))
    place.moved(4, faults.before[AAC1] - HOUR)
    place.moved(-4)
    place.erp(4, faults.before[AAC1]).becomes(None)


def add_negative(faults):
    """Stock below zero."""
    place = faults.case("3 issued of 2 on hand: a receipt was not booked", (AAC1, "PEDAL"))
    place.moved(2)
    place.moved(-3, faults.booked + HOUR)
    place.erp(2).becomes("NEGATIVE_STOCK", -1, 2)
    place = faults.case("the same, and the ERP followed: equal, but still below zero", (AAC1, "BRAKE-CABLE-2"))
    place.moved(-1)
    place.erp(-1).becomes("NEGATIVE_STOCK", -1, -1)


def add_timing(faults):
    """Movements around the snapshot, with a posting lag of 12 hours in AAC1 and of 8 in EIN1."""
    place = faults.case("an issue two hours before the snapshot, not posted yet", (AAC1, "HELMET"))
    place.moved(20)
    place.moved(-5, place.as_of - 2 * HOUR)
    place.erp(20).becomes("TIMING", 15, 20)
    place = faults.case("an issue exactly the posting lag before the snapshot", (EIN1, "SPEEDOMETER"))
    place.moved(20)
    place.moved(-3, place.as_of - 8 * HOUR)
    place.erp(20).becomes("TIMING", 17, 20)
    place = faults.case("an issue one second earlier than that", (EIN1, "BELL"))
    place.moved(20)
    place.moved(-3, place.as_of - 8 * HOUR - SECOND)
    place.erp(20).becomes("TRUE_VARIANCE", 17, 20)
    place = faults.case("three issues within the lag, of which the first is posted", (AAC1, "TUBE"))
    place.moved(30)
    for hours, quantity in ((3, -4), (2, -6), (1, -1)):
        place.moved(quantity, place.as_of - hours * HOUR)
    place.erp(26).becomes("TIMING", 19, 26)
    place = faults.case("an issue within the lag that does not explain the difference", (AAC1, "PEDAL"))
    place.moved(30)
    place.moved(-4, place.as_of - 2 * HOUR)
    place.erp(31).becomes("TRUE_VARIANCE", 26, 31)
    place = faults.case("an issue at the very moment of the snapshot enters", (AAC1, "SADDLE"))
    place.moved(10)
    place.moved(-1, place.as_of)
    place.erp(9).matches(9)
    place = faults.case("an issue after the snapshot does not enter", (AAC1, "TIRE"))
    place.moved(10)
    place.moved(-6, place.as_of + 3 * HOUR)
    place.erp(10).matches(10)


def add_swaps(faults):
    """Differences that net to zero over stock types or lots."""
    free, quality = faults.case(
        "3 moved to quality inspection, which the ERP missed", (EIN1, "BELL"), (EIN1, "BELL", "", "quality")
    )
    free.moved(10)
    quality.moved(2)
    free.moved(-3, faults.booked + HOUR)
    quality.moved(3, faults.booked + HOUR)
    free.erp(10).becomes("STOCK_TYPE", 7, 10)
    quality.erp(2).becomes("STOCK_TYPE", 5, 2)
    free, blocked = faults.case(
        "2 blocked, and the ERP has no blocked stock of the lot", (EIN1, "FRONT-LIGHT"), (EIN1, "FRONT-LIGHT", "", "blocked")
    )
    free.moved(9)
    free.moved(-2, faults.booked + HOUR)
    blocked.moved(2, faults.booked + HOUR)
    free.erp(9).becomes("STOCK_TYPE", 7, 9)
    blocked.becomes("MISSING_IN_ERP", 2)
    first, second = faults.case(
        "4 picked from one lot and posted from the other", (EIN1, "SPEEDOMETER", "-A"), (EIN1, "SPEEDOMETER", "-B")
    )
    first.moved(10)
    second.moved(10)
    second.moved(-4, faults.booked + HOUR)
    first.erp(6).becomes("LOT_SWAP", 10, 6)
    second.erp(10).becomes("LOT_SWAP", 6, 10)


def add_variances(faults):
    """What is simply wrong, large and small, on positions of the log and on others."""
    at = faults.as_of[AAC1] - 12 * HOUR
    place = faults.case("a count finds 2 fewer than were there", (AAC1, "BRAKE-SHOES-4", "", "unrestricted", "", ""))
    right = faults.balance(AAC1, "BRAKE-SHOES-4", at)
    place.counted(right - 2, at, document_id="COUNT-1")
    place.becomes("TRUE_VARIANCE", right - 2, right, False)
    place = faults.case("a count finds 2 more: a surplus never pays for a shortage", (AAC1, "BRAKE-CABLE-2", "", "unrestricted", "", ""))
    right = faults.balance(AAC1, "BRAKE-CABLE-2", at)
    place.counted(right + 2, at, document_id="COUNT-1")
    place.becomes("TRUE_VARIANCE", right + 2, right, False)
    place = faults.case("4 % too few of class C, which tolerates 5 %", (AAC1, "HANDLES-2"))
    place.moved(192)
    place.erp(200).becomes("TRUE_VARIANCE", 192, 200, True)
    place = faults.case("3 % too few of class A, which tolerates 1 %", (AAC1, "TIRE"))
    place.moved(194)
    place.erp(200).becomes("TRUE_VARIANCE", 194, 200, False)


def add_counts(faults):
    """Counts that correct, confirm, come late or twice."""
    at = faults.as_of[AAC1] - 12 * HOUR
    place = faults.case("a count that confirms", (AAC1, "PEDAL", "", "unrestricted", "", ""))
    right = faults.balance(AAC1, "PEDAL", at)
    place.counted(right, at, document_id="COUNT-1")
    place.matches(right)
    place = faults.case("a count at the instant of a movement: the movement comes first", (AAC1, "TUBE", "", "unrestricted", "", ""))
    last = max(event["occurred_at"] for event in faults.observed if event["event_id"].endswith(".move.TUBE"))
    right = faults.balance(AAC1, "TUBE", last)
    place.counted(right, last, document_id="COUNT-2")
    place.matches(right)
    place = faults.case("an issue recorded after the count that already saw it: it explains the adjustment away", (AAC1, "HELMET"))
    place.moved(10)
    place.counted(9, faults.booked + 4 * HOUR)
    place.moved(-1, faults.booked + 2 * HOUR, recorded_at=faults.booked + 30 * HOUR)
    place.erp(9).matches(9)
    place = faults.case("a count finds one fewer, and the ERP was corrected", (AAC1, "SADDLE"))
    place.moved(12)
    place.counted(11, faults.booked + HOUR)
    place.erp(11).matches(11)
    place = faults.case("two counts at one instant: the one recorded last counts", (AAC1, "TUBE"))
    place.moved(12)
    place.counted(12, faults.booked + HOUR, recorded_at=faults.booked + 3 * HOUR)
    place.counted(10, faults.booked + HOUR)
    place.erp(12).matches(12)
    place = faults.case("movements go on after the last of three counts", (EIN1, "FRONT-LIGHT"))
    for hours, counted in ((0, 50), (1, 49), (2, 48)):
        place.counted(counted, faults.booked + hours * HOUR)
    place.moved(-8, faults.booked + 3 * HOUR)
    place.moved(5, faults.booked + 4 * HOUR)
    place.erp(45).matches(45)
    faults.case("cycle counts of all items of the log, every fourth Saturday, that confirm what is there")
    add_cycle_counts(faults)


def add_cycle_counts(faults):
    """Confirming counts, each item at a seeded minute of the day."""
    counted = [event for event in faults.observed if event["event_type"] == "stock.counted" and not event["owner_id"]]
    places = sorted((event["site"], event["sku"]) for event in counted)
    day, round_ = datetime.datetime(2019, 11, 2, 6, tzinfo=datetime.timezone.utc), 1
    while day < faults.booked:
        for site, sku in places:
            at = day + datetime.timedelta(minutes=draw(f"count/{round_}/{sku}", 8 * 60))
            event = faults.event(
                "stock.counted", at, site=site, sku=sku, quantity=faults.balance(site, sku, at), document_id=f"CYCLE-{round_}"
            )
            event["event_id"] = f"inj-{faults.number}.{round_}.{sku}"
        day, round_ = day + datetime.timedelta(days=28), round_ + 1


def add_messages(faults):
    """What happens to the messages that say it: retracted, repeated, out of order, not meant."""
    place = faults.case("a receipt retracted", (EIN1, "BELL"))
    place.moved(10)
    wrong = place.moved(5, faults.booked + HOUR)
    faults.event("event.retracted", faults.booked + 2 * HOUR, ref_event_id=wrong["event_id"])
    place.erp(10).matches(10)
    place = faults.case("a retraction that arrives before the count that it retracts", (EIN1, "BELL"))
    place.moved(10)
    wrong = place.counted(7, faults.booked + HOUR, recorded_at=faults.booked + 5 * HOUR)
    faults.event("event.retracted", faults.booked + 2 * HOUR, ref_event_id=wrong["event_id"])
    place.erp(10).matches(10)
    place = faults.case("a planned and an estimated receipt: neither is a fact", (AAC1, "SADDLE"))
    place.moved(10)
    place.moved(50, faults.booked + HOUR, classifier="PLN")
    place.moved(40, faults.booked + HOUR, classifier="EST")
    place.erp(10).matches(10)
    place = faults.case("the same receipt twice", (AAC1, "TIRE"), message="duplicate")
    first = place.moved(10)
    place.moved(10, recorded_at=faults.booked + HOUR)["event_id"] = first["event_id"]
    place.erp(10).matches(10)
    place = faults.case("another receipt under the same id", (AAC1, "HELMET"), message="dead letter: ID_CONFLICT")
    first = place.moved(10)
    place.moved(11, recorded_at=faults.booked + HOUR)["event_id"] = first["event_id"]
    place.erp(10).matches(10)
    place = faults.case("an issue recorded before the receipt that it draws on", (AAC1, "PEDAL"))
    place.moved(-4, faults.booked + HOUR)
    place.moved(10, recorded_at=faults.booked + 20 * HOUR)
    place.erp(6).matches(6)


def add_places(faults):
    """Stock types, owners, and sites whose picks move the stock or don't."""
    place = faults.case("a transfer under way, in both systems", (EIN1, "SPEEDOMETER", "", "in_transit"))
    place.moved(5)
    place.erp(5).matches(5)
    place = faults.case("blocked stock in both systems", (AAC1, "HELMET", "", "blocked"))
    place.moved(3)
    place.erp(3).matches(3)
    place = faults.case("vendor-owned stock that differs: outside the comparison", (AAC1, "PADS-TIRE", "", "unrestricted", "PADS"))
    place.moved(10)
    place.erp(4).becomes(None)
    for site, sku, left in ((AAC1, "SADDLE", 10), (EIN1, "BELL", 8)):
        effect = "where picks move the stock" if site == EIN1 else "where picks move nothing"
        place = faults.case(f"a pick without a movement, {effect}", (site, sku))
        place.moved(10)
        of_line = {"order_id": f"inj-{faults.number}", "order_line": "10"}
        faults.event("pick.confirmed", faults.booked + HOUR, **place.fields(), **of_line, quantity=2)
        place.erp(left).matches(left)


def add_commitments(faults):
    """Orders that bind stock, for what is available to promise."""
    faults.case("5 released, 2 of them allocated, 1 picked: 4 are bound")
    add_order(faults, ("order.released", 5), ("stock.allocated", 2), ("pick.confirmed", 1))
    faults.case("3 released and allocated, then changed to 4: 4 are bound")
    add_order(faults, ("order.released", 3), ("stock.allocated", 3), ("order.changed", 4))
    faults.case("2 released and allocated, then cancelled: none is bound")
    add_order(faults, ("order.released", 2), ("stock.allocated", 2), ("order.cancelled", 2))
    faults.case("1 carton of 5 released: 5 are bound")
    add_order(faults, ("order.released", 1), sku="TIRE", uom="CT")


def add_order(faults, *steps, sku="HELMET", **other):
    """One order line, step by step an hour apart."""
    for hours, (event_type, quantity) in enumerate(steps):
        faults.event(
            event_type, faults.booked + hours * HOUR, order_id=f"inj-{faults.number}", order_line="10", site=AAC1, sku=sku,
            quantity=quantity, **other,
        )


MALFORMED = (
    ("a movement without a site", "REQUIRED", '"sku":"BELL","quantity":1'),
    ("a count below zero", "OUT_OF_RANGE", '"site":"EIN1","sku":"BELL","quantity":-1'),
    ("a stock type that nobody knows", "NOT_IN_ENUM", '"site":"EIN1","sku":"BELL","stock_type":"lost","quantity":1'),
    ("four decimals in a quantity", "DECIMAL_SCALE", '"site":"EIN1","sku":"BELL","quantity":1.0005'),
)


def malformed(faults):
    """Messages that are no events of the contract; they come right behind the last injected event."""
    lines = []
    for position, (what, rule, fields) in enumerate(MALFORMED, start=1):
        faults.cases.append(Case(f"M{position:02}", what, [], f"dead letter: {rule}"))
        event_type = "stock.counted" if "count" in what else "stock.moved"
        time = time_text(max(event["recorded_at"] for event in faults.rows))
        lines.append(
            f'{{"event_id":"bad-{position:02}","event_type":"{event_type}","occurred_at":"{time}","recorded_at":"{time}",'
            f'"source_system":"{SOURCE}",{fields}}}'
        )
    return lines
