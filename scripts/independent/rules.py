"""The state of every delivery line and whether it may be invoiced, recomputed from scratch over all accepted events.

A delivery line is (shipment, order, line). Master data are judged as they are now. Where the rules leave a choice, the
comment at the place says which reading was taken.
"""

import collections
import datetime
import re
from decimal import ROUND_HALF_UP, Decimal, localcontext

MINOR_UNIT = {"JPY": Decimal("1"), "KWD": Decimal("0.001")}
CENT = Decimal("0.01")
ZERO = Decimal(0)
DURATION = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", re.ASCII)
UNRESERVED = re.compile(r"[A-Za-z0-9_-]", re.ASCII)


class Facts:
    """The actual, not retracted events, arranged by what they are about."""

    def __init__(self, events):
        # A retraction holds whether it comes before or after its event, and cannot be retracted itself.
        self.retracted = {
            event["ref_event_id"]
            for event in events
            if event["event_type"] == "event.retracted" and event["classifier"] == "ACT"
        }
        self.by_type = collections.defaultdict(list)
        self.newest = None
        for event in events:
            if event["classifier"] != "ACT":
                continue
            if self.newest is None or event["occurred_at"] > self.newest:
                self.newest = event["occurred_at"]
            if event["event_id"] not in self.retracted and event["event_type"] != "event.retracted":
                self.by_type[event["event_type"]].append(event)
        self.contents = collections.defaultdict(lambda: ZERO)
        self.dispatched_shipments = set()
        for event in self.by_type["dispatch.assigned"]:
            self.contents[line_key(event)] += event["quantity"]
            self.dispatched_shipments.add(event["shipment_id"])
        self.of_line = {name: self.arrange(name) for name in ("gate.out", "delivery.failed", "pod.received")}

    def arrange(self, event_type):
        """Events of a type by delivery line; those of a whole shipment under (shipment, '', '')."""
        arranged = collections.defaultdict(list)
        for event in self.by_type[event_type]:
            arranged[line_key(event)].append(event)
        return arranged

    def about(self, event_type, key):
        """The events about a delivery line: its own, or else those of its shipment."""
        arranged = self.of_line[event_type]
        return arranged.get(key) or arranged.get((key[0], "", ""), [])

    def delivery_lines(self):
        """Everything that was assigned to a shipment, and every proof that matches nothing that was."""
        keys = set(self.contents)
        for key in self.of_line["pod.received"]:
            whole_shipment = key[1:] == ("", "")
            if key not in keys and not (whole_shipment and key[0] in self.dispatched_shipments):
                keys.add(key)
        return sorted(keys)

    def first_gate_out(self, key):
        """When a delivery line first left."""
        return min((event["occurred_at"] for event in self.about("gate.out", key)), default=None)

    def proofs(self, key):
        """The proofs that stand: not corrected by another one that names them; the last one in time is last."""
        proofs = self.about("pod.received", key)
        corrected = {proof["ref_event_id"] for proof in proofs}
        standing = [proof for proof in proofs if proof["event_id"] not in corrected]
        return sorted(standing, key=in_time)


def in_time(event):
    """The order of events in time: `recorded_at` breaks ties, then `event_id` does."""
    return event["occurred_at"], event["recorded_at"] or event["occurred_at"], event["event_id"]


def line_key(event):
    """(shipment, order, line), empty where the event does not say."""
    return event["shipment_id"] or "", event["order_id"] or "", event["order_line"] or ""


def trigger_key(key):
    """The three parts, percent-encoded and joined by `/`."""
    return "/".join("".join(map(percent_encoded, part)) for part in key)


def percent_encoded(character):
    """All but ASCII letters, digits, `_` and `-` as `%XX` of their UTF-8 bytes."""
    if UNRESERVED.fullmatch(character):
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8"))


def duration(text):
    """A duration of weeks, days, hours, minutes and seconds, or `None`."""
    if not text:
        return None
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in DURATION.fullmatch(text).groups())
    return datetime.timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def within(difference, expected, pct, absolute):
    """Whether a difference above zero lies inside either limit of its side; a limit that is `None` is not set."""
    return (pct is not None and difference <= expected * pct / 100) or (absolute is not None and difference <= absolute)


def is_short(actual, expected, customer):
    """Below what was expected, by more than the customer's tolerance."""
    difference = expected - actual
    return difference > 0 and not within(difference, expected, customer["under_pct"], customer["under_abs"])


def is_over(actual, expected, customer):
    """Above what was expected, by more than the customer's tolerance."""
    difference = actual - expected
    return difference > 0 and not within(difference, expected, customer["over_pct"], customer["over_abs"])


def money(quantity, order_line):
    """The price of a quantity, rounded half up to the currency's minor unit."""
    with localcontext() as context:
        context.prec = 60
        exact = quantity * order_line["unit_price"] / order_line["price_per"]
        return exact.quantize(MINOR_UNIT.get(order_line["currency"], CENT), ROUND_HALF_UP)


NO_TERMS = {
    "terms": None, "credit_hold": False, "billing_block": False, "requires_pod": True, "requires_signature": False,
    "under_pct": None, "over_pct": None, "under_abs": None, "over_abs": None, "pod_due_after": None,
    "auto_confirm_after": None,
}


class Judge:
    """Decides every delivery line, given the facts, the master data and how far time is known."""

    def __init__(self, facts, order_lines, customers, watermark):
        self.facts, self.order_lines, self.customers, self.watermark = facts, order_lines, customers, watermark
        self.lines = {key: self.delivered(key) for key in facts.delivery_lines()}
        self.accepted_of_order_line = collections.defaultdict(lambda: ZERO)
        for key, line in self.lines.items():
            if line["basis"]:
                self.accepted_of_order_line[key[1:]] += line["accepted"]
        for key, line in self.lines.items():
            line["reasons"] = sorted(self.reasons(key, line))
            line["validated"] = bool(line["basis"]) and not line["reasons"]
            if line["validated"]:
                line["amount"] = money(line["accepted"], self.order_lines[key[1:]])

    def customer(self, key):
        """The customer of a delivery line, or `None`."""
        order_line = self.order_lines.get(key[1:])
        return order_line and self.customers.get(order_line["customer_id"])

    def delivered(self, key):
        """What is known of a delivery line's way: shipped, proof, and on which basis it may be invoiced since when."""
        facts, customer = self.facts, self.customer(key) or NO_TERMS
        shipped = facts.contents[key] if key in facts.contents else None
        proofs = facts.proofs(key)
        line = {
            "shipped": shipped, "gate_out": facts.first_gate_out(key), "proofs": proofs,
            "proof": proofs[-1] if proofs else None, "basis": None, "since": None, "accepted": None,
        }
        confirmed_at = self.auto_confirmed_at(key, line, customer)
        if not customer["requires_pod"] and line["gate_out"]:
            line.update(basis="gate_out", since=line["gate_out"], accepted=shipped)
        elif confirmed_at:
            line.update(basis="auto_confirmed", since=confirmed_at, accepted=shipped)
        elif proofs:
            delivered, damaged, refused = quantities(line["proof"], shipped)
            line.update(basis="pod", since=line["proof"]["occurred_at"], accepted=delivered - damaged - refused)
        return line

    def auto_confirmed_at(self, key, line, customer):
        """When delivery was confirmed for want of a proof, if it was.

        A failed delivery up to that moment suspends it; what comes later, an equal proof included, changes nothing. A
        later proof of other quantities is judged as a proof.
        """
        after = duration(customer["auto_confirm_after"])
        if not customer["requires_pod"] or after is None or line["gate_out"] is None:
            return None
        moment = line["gate_out"] + after
        failed = any(event["occurred_at"] <= moment for event in self.facts.about("delivery.failed", key))
        proved = any(proof["occurred_at"] <= moment for proof in line["proofs"])
        amended = any(quantities(proof, line["shipped"]) != (line["shipped"], ZERO, ZERO) for proof in line["proofs"])
        return None if moment >= self.watermark or failed or proved or amended else moment

    def reasons(self, key, line):
        """Every check that fails. While a line waits for its proof, only the proof can be overdue."""
        order_line, customer = self.order_lines.get(key[1:]), self.customer(key)
        if not line["basis"]:
            due = customer and customer["requires_pod"] and duration(customer["pod_due_after"])
            if due and line["gate_out"] and line["gate_out"] + due < self.watermark:
                yield "POD_OVERDUE"
            return
        if line["shipped"] is None or order_line is None or customer is None:
            yield "POD_UNMATCHED_REF"
        if line["basis"] == "pod":
            yield from self.reasons_of_proof(line, order_line, customer or NO_TERMS)
        if customer is None:
            return
        if is_over(self.accepted_of_order_line[key[1:]], order_line["quantity"], customer):
            yield "OVER_ORDER"
        if not customer["terms"]:
            yield "TERMS_MISSING"
        if customer["credit_hold"]:
            yield "CREDIT_HOLD"
        if customer["billing_block"]:
            yield "BILLING_BLOCK"

    def reasons_of_proof(self, line, order_line, customer):
        """The checks of the proof itself; those of quantities need to know what was shipped."""
        proof, shipped = line["proof"], line["shipped"]
        delivered, damaged, refused = quantities(proof, shipped)
        if customer["requires_signature"] and not proof["signed_by"]:
            yield "POD_EVIDENCE_INCOMPLETE"
        if shipped is not None and is_short(delivered, shipped, customer):
            yield "QTY_SHORT"
        if shipped is not None and is_over(delivered, shipped, customer):
            yield "QTY_OVER"
        if damaged > 0:
            yield "DAMAGED"
        if refused > 0:
            yield "REFUSED"
        if len({quantities(other, shipped) for other in line["proofs"]}) > 1:
            yield "POD_AMENDED"
        # A proof of what never left is a proof before gate-out.
        if line["gate_out"] is None or proof["occurred_at"] < line["gate_out"]:
            yield "SEQUENCE_VIOLATION"
        elif proof["occurred_at"] > self.facts.newest:
            yield "SEQUENCE_VIOLATION"
        if order_line and proof["sku"] and proof["sku"] != order_line["sku"]:
            yield "WRONG_ITEM"


def quantities(proof, shipped):
    """Delivered, damaged, refused; a proof without a quantity is a clean receipt of what was shipped."""
    delivered = proof["quantity"] if proof["quantity"] is not None else shipped or ZERO
    return delivered, proof["damaged_quantity"] or ZERO, proof["refused_quantity"] or ZERO
