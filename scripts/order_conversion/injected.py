"""Faults on top of the observed events: events of their own, never a change of an observed line.

A fault at a delivery usually is a retraction of the observed proof and another proof in its place. Every case names what it
does and what must come of it; `convert_orders.py` writes the cases as a table into `data/README.md` and checks them.
"""

import collections

from .malformed import malformed_lines
from .text import draw, event_text, later

SOURCE = "injected"

# number; what it is; the delivery line (or shipment, or event id) it is about; what must come of it
Case = collections.namedtuple("Case", "number what about outcome")
DeliveryLine = collections.namedtuple("DeliveryLine", "key shipment dispatch gate_out proof")


class Faults:
    """Builds the injected lines case by case, each on a delivery line of its own."""

    def __init__(self, observed, log, customer_of):
        self.log, self.customer_of = log, customer_of
        self.observed = {event["event_id"]: event for event in observed}
        shipments_of = collections.defaultdict(set)
        for package in log.packages.values():
            for line in package.contents:
                shipments_of[line].add(package.shipment_id)
        self.split = {line for line, shipments in shipments_of.items() if len(shipments) > 1}
        self.used, self.cases, self.rows, self.settled_at = set(), [], [], {}

    def choose(self, customer, quantity=1, lines_max=99):
        """The first fitting delivery line in seeded order.

        It is one that went plainly: not split, delivered within 20 hours without a failure, two months before the log
        ends. Its shipment is in no other case.
        """
        candidates = []
        for package in self.log.packages.values():
            quick = package.delivered.time < min(later(package.sent.time, hours=20), "2024-04-01")
            if package.shipment_id in self.used or self.customer_of(package) != customer or not quick or package.failed:
                continue
            if len(package.contents) <= lines_max:
                whole = [line for line in package.contents if line not in self.split]
                candidates += [(package, line) for line in whole if package.contents[line] == quantity]
        package, (order, number) = min(
            candidates, key=lambda candidate: draw(f"fault/{candidate[0].shipment_id}/{candidate[1]}", 1 << 48)
        )
        self.used.add(package.shipment_id)
        return DeliveryLine(
            (package.shipment_id, order, number), package.shipment_id,
            self.observed[f"{package.created.event_id}.{order}.{number}"], self.observed[package.sent.event_id],
            self.observed[f"{package.delivered.event_id}.{order}.{number}"],
        )

    def case(self, what, about, outcome, *events):
        """Adds a case: its events are numbered after it; an event that has an id keeps it."""
        number = f"{len(self.cases) + 1:02}"
        self.cases.append(Case(number, what, about, outcome))
        for position, event in enumerate(events):
            event = {"event_id": f"inj-{number}{chr(ord('a') + position)}", **event}
            self.rows.append(event)
            if event.get("shipment_id"):
                self.settle(event["shipment_id"], event["recorded_at"])
            elif event.get("ref_event_id") in self.observed:
                self.settle(self.observed[event["ref_event_id"]].get("shipment_id"), event["recorded_at"])
        return number

    def settle(self, shipment, recorded_at):
        """Remembers when the last injected event about a shipment was recorded."""
        self.settled_at[shipment] = max(self.settled_at.get(shipment, ""), recorded_at)

    def judged(self, what, line, outcome, *events):
        """A case about one delivery line."""
        return self.case(what, "/".join(line.key), outcome, *events)

    def lines(self):
        """The injected lines in order: by `recorded_at`, then id, each malformed one right behind a well-formed one."""
        rows = sorted(self.rows, key=lambda event: (event["recorded_at"], event["event_id"]))
        hosts = [event for event in rows if event["event_type"] == "pod.received" and event["source_system"] == SOURCE]
        behind = collections.defaultdict(list)
        for position, (what, outcome, text) in enumerate(malformed_lines([event["recorded_at"] for event in hosts])):
            self.cases.append(Case(f"M{position + 1:02}", what, "", f"dead letter: {outcome}"))
            behind[hosts[position % len(hosts)]["event_id"]].append(text)
        lines = []
        for event in rows:
            lines.append(self.text(event))
            lines += behind.pop(event["event_id"], []) if event in hosts else []
        return lines

    def text(self, event):
        """A line; a re-sent event may say the same in other words."""
        if event.pop("reworded", False):
            return event_text(event).replace('"quantity":1,', '"quantity":"1.000",')
        return event_text(event)


def retraction(event, hours=2, ref=None):
    """An `event.retracted` of an observed event, so many hours after it was recorded."""
    moment = later(event["recorded_at"], hours=hours)
    return injected("event.retracted", moment, moment, ref_event_id=ref or event["event_id"])


def proof(line, hours=3, **other):
    """A proof of a delivery line like the observed one but for what is given, recorded so many hours later."""
    same = {name: line.proof[name] for name in ("order_id", "order_line", "shipment_id", "sku", "quantity", "signed_by")}
    recorded_at = later(line.proof["recorded_at"], hours=hours)
    return {**injected("pod.received", line.proof["occurred_at"], recorded_at), **same, **other}


def injected(event_type, occurred_at, recorded_at, **fields):
    """A well-formed event of no observed source."""
    return {
        "event_type": event_type, "occurred_at": occurred_at, "recorded_at": recorded_at, "source_system": SOURCE, **fields,
    }


def add_quantity_cases(faults):
    """Short, over, damaged, refused, and all of it within tolerance."""
    def replaced(what, customer, ordered, outcome, **other):
        line = faults.choose(customer, ordered)
        faults.judged(what, line, outcome, retraction(line.proof), proof(line, **other))

    replaced("short delivery: 1 of 2, no tolerance", "eastern-oak-insurance-zrt", 2, "exception: QTY_SHORT", quantity=1)
    replaced("short delivery inside the tolerance of one piece", "riviera-robotics-sas", 2, "validated: pod 1.000", quantity=1)
    replaced("a delivered quantity of zero is zero", "carpathian-financial-services-plc", 1, "exception: QTY_SHORT", quantity=0)
    replaced("over delivery: 2 of 1", "swisspeak-timepieces-ag", 1, "exception: OVER_ORDER, QTY_OVER", quantity=2)
    replaced("over delivery inside the tolerance of one piece", "nordica-systems-gmbh", 1, "validated: pod 2.000", quantity=2)
    replaced("damage: 1 of 2", "celtica-green-farms-oy", 2, "exception: DAMAGED", damaged_quantity=1)
    replaced("refusal: all of 1", "vesta-fashion-house-gmbh", 1, "exception: REFUSED", refused_quantity=1)
    replaced(
        "short, damaged and refused at once", "eastern-oak-insurance-zrt", 3, "exception: DAMAGED, QTY_SHORT, REFUSED",
        quantity=2, damaged_quantity=1, refused_quantity=1,
    )
    line = faults.choose("swisspeak-timepieces-ag")
    dispatch = {name: line.dispatch[name] for name in ("order_id", "order_line", "shipment_id", "sku")}
    moment = later(line.dispatch["recorded_at"], hours=2)
    faults.judged(
        "over-shipment: 2 assigned, sent and accepted where 1 was ordered", line, "exception: OVER_ORDER",
        retraction(line.dispatch, hours=1),
        {**injected("dispatch.assigned", line.dispatch["occurred_at"], moment), **dispatch, "quantity": 2},
        retraction(line.proof), proof(line, quantity=2),
    )


def add_proof_cases(faults):
    """Proofs that come twice, are corrected, retracted, incomplete or wrong."""
    line = faults.choose("nordica-systems-gmbh", 2)
    faults.judged(
        "retracted proof, then an amended one that names it, within tolerance", line, "validated: pod 1.000",
        retraction(line.proof), proof(line, quantity=1, ref_event_id=line.proof["event_id"]),
    )
    line = faults.choose("nordica-systems-gmbh", 2)
    faults.judged(
        "second proof with other quantities and no reference", line, "exception: POD_AMENDED", proof(line, quantity=1)
    )
    line = faults.choose("vesta-fashion-house-gmbh")
    faults.judged("second proof with the same quantities", line, "validated: pod 1.000", proof(line))
    line = faults.choose("golden-fleece-textiles-s-a-r-l", 2)
    faults.judged(
        "second proof that corrects the first by reference, within tolerance", line, "validated: pod 1.000",
        proof(line, quantity=1, ref_event_id=line.proof["event_id"]),
    )
    line = faults.choose("golden-fleece-textiles-s-a-r-l")
    faults.judged(
        "proof without the required signature", line, "exception: POD_EVIDENCE_INCOMPLETE",
        retraction(line.proof), proof(line, signed_by=None),
    )
    line = faults.choose("carpathian-financial-services-plc")
    other = "IPAD" if line.proof["sku"] != "IPAD" else "KINDLE"
    faults.judged("proof of another item", line, "exception: WRONG_ITEM", retraction(line.proof), proof(line, sku=other))
    line = faults.choose("vesta-fashion-house-gmbh")
    faults.judged("proof retracted and never sent again", line, "exception: POD_OVERDUE", retraction(line.proof))
    line = faults.choose("baltic-wave-energies-ltd")
    faults.judged(
        "the same where delivery is confirmed automatically", line, "validated: auto_confirmed 1.000", retraction(line.proof)
    )
    line = faults.choose("riviera-robotics-sas")
    whole = injected("pod.received", line.proof["occurred_at"], later(line.proof["recorded_at"], hours=3))
    faults.judged(
        "proof of the whole shipment without a quantity in place of the line's", line, "validated: pod 1.000",
        retraction(line.proof), {**whole, "shipment_id": line.shipment},
    )


def add_sequence_cases(faults):
    """Gate-outs that are missing or late, retractions that are early or about nothing, statements that are no facts."""
    line = faults.choose("riviera-robotics-sas")
    early = later(line.gate_out["occurred_at"], minutes=-30)
    faults.judged(
        "proof half an hour before gate-out", line, "exception: SEQUENCE_VIOLATION",
        retraction(line.proof), proof(line, occurred_at=early),
    )
    line = faults.choose("vesta-fashion-house-gmbh", lines_max=1)
    faults.judged("missing gate-out (retracted)", line, "exception: SEQUENCE_VIOLATION", retraction(line.gate_out, hours=1))
    line = faults.choose("carpathian-financial-services-plc", lines_max=1)
    gate_out = injected("gate.out", line.gate_out["occurred_at"], later(line.proof["recorded_at"], hours=4))
    faults.judged(
        "missing gate-out, sent again after the proof", line, "validated: pod 1.000",
        retraction(line.gate_out, hours=1), {**gate_out, "shipment_id": line.shipment},
    )
    line = faults.choose("vesta-fashion-house-gmbh")
    number = f"{len(faults.cases) + 1:02}"
    faults.judged(
        "retraction that arrives a day before the (wrong) proof it retracts", line, "validated: pod 1.000",
        retraction(line.proof, hours=24, ref=f"inj-{number}b"), proof(line, hours=48, quantity=0),
    )
    line = faults.choose("swisspeak-timepieces-ag")
    number = f"{len(faults.cases) + 1:02}"
    faults.judged(
        "retraction of a retraction: nothing, a retraction is final", line, "exception: POD_OVERDUE",
        retraction(line.proof), retraction(line.proof, hours=3, ref=f"inj-{number}a"),
    )
    line = faults.choose("eastern-oak-insurance-zrt")
    faults.judged(
        "retraction of an event that never comes", line, "validated: pod 1.000",
        retraction(line.proof, ref="no-such-event"),
    )
    line = faults.choose("celtica-green-farms-oy")
    sent = line.gate_out["occurred_at"]
    faults.judged(
        "estimate of arrival and a planned proof of another quantity: neither is a fact", line, "validated: pod 1.000",
        injected(
            "eta.updated", sent, sent, classifier="EST", shipment_id=line.shipment, estimated_for=later(sent, hours=9)
        ),
        {**proof(line, quantity=7), "classifier": "PLN"},
    )


def add_reference_cases(faults):
    """Proofs that match nothing."""
    line = faults.choose("riviera-robotics-sas")
    faults.case(
        "proof of an unknown order", f"{line.shipment}/o-999999/10", "exception: POD_UNMATCHED_REF",
        proof(line, order_id="o-999999", order_line="10"),
    )
    line = faults.choose("eastern-oak-insurance-zrt")
    faults.case(
        "proof of an unknown line of a known order", f"{line.shipment}/{line.key[1]}/990", "exception: POD_UNMATCHED_REF",
        proof(line, order_line="990"),
    )
    # Within the customer's tolerance of one piece, so that the order line itself stays clean.
    line = faults.choose("riviera-robotics-sas")
    faults.case(
        "proof of an unknown shipment", f"p-999999/{line.key[1]}/{line.key[2]}",
        "exception: POD_UNMATCHED_REF, SEQUENCE_VIOLATION", proof(line, shipment_id="p-999999"),
    )


def add_identity_cases(faults):
    """The same id again: with the same content, and with other content. They keep the observed id and source system."""
    line = faults.choose("eastern-oak-insurance-zrt")
    faults.case("the same proof again, byte for byte", line.proof["event_id"], "duplicate", dict(line.proof))
    later_copy = {**line.gate_out, "recorded_at": later(line.gate_out["recorded_at"], days=2)}
    faults.case("the same gate-out again, recorded two days later", later_copy["event_id"], "duplicate", later_copy)
    line = faults.choose("eastern-oak-insurance-zrt")
    reworded = {**line.proof, "reworded": True}
    faults.case("the same proof again, its quantity written as `\"1.000\"`", reworded["event_id"], "duplicate", reworded)
    line = faults.choose("riviera-robotics-sas")
    conflict = {**proof(line, quantity=2), "event_id": line.proof["event_id"], "source_system": line.proof["source_system"]}
    faults.case("an observed proof's id with another quantity", conflict["event_id"], "dead letter: ID_CONFLICT", conflict)
    line = faults.choose("vesta-fashion-house-gmbh")
    conflict = {**line.gate_out, "occurred_at": later(line.gate_out["occurred_at"], hours=-1)}
    conflict["recorded_at"] = later(line.gate_out["recorded_at"], hours=6)
    faults.case("an observed gate-out's id with another time", conflict["event_id"], "dead letter: ID_CONFLICT", conflict)


def inject(observed, log, customer_of):
    """All faults; deterministic in the seed."""
    faults = Faults(observed, log, customer_of)
    add_quantity_cases(faults)
    add_proof_cases(faults)
    add_sequence_cases(faults)
    add_reference_cases(faults)
    add_identity_cases(faults)
    return faults
