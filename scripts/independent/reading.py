"""Reads `milestone.v1` messages strictly and says what becomes of each one: accepted, duplicate or dead letter.

Written from the description of the canonical event alone. The standard library only; numbers are `Decimal` throughout.
"""

import datetime
import json
import re
from decimal import Decimal

EVENT_TYPES = {
    "order.released", "order.changed", "order.cancelled", "stock.allocated", "pick.confirmed", "dispatch.assigned",
    "gate.out", "delivery.arrived", "delivery.failed", "eta.updated", "pod.received", "return.initiated",
    "return.received", "invoice.posted", "invoice.cancelled", "payment.received", "stock.moved", "stock.counted",
    "exception.resolved", "event.retracted",
}
CHOICES = {
    "event_type": EVENT_TYPES,
    "classifier": {"ACT", "EST", "PLN"},
    "stock_type": {"unrestricted", "quality", "blocked", "in_transit"},
    "resolution": {"release", "release_with_quantity", "reject"},
}
DEFAULTS = {"classifier": "ACT", "stock_type": "unrestricted", "uom": "EA"}
TIMES = {"occurred_at", "estimated_for", "recorded_at"}
DECIMALS = {"quantity", "damaged_quantity", "refused_quantity", "amount"}
TEXTS = {
    "event_id", "source_system", "order_id", "order_line", "shipment_id", "handling_unit_id", "customer_id",
    "carrier_id", "site", "sku", "lot", "owner_id", "uom", "currency", "document_id", "document_line", "signed_by",
    "reason_code", "trigger_key", "trigger_id", "resolved_by", "ref_event_id",
} | set(CHOICES)
COLUMNS = TEXTS | TIMES | DECIMALS
LONGEST = {"uom": 20, "currency": 3, "signed_by": 200, "resolved_by": 200, "trigger_key": 1000, "trigger_id": 1000}
LONGEST_OTHERWISE = 100
REQUIRED = ("event_id", "event_type", "occurred_at", "source_system")
# A column that has a default, or that every event must have, is never null.
NEVER_NULL = set(REQUIRED) | set(DEFAULTS)

ORDER_LINE = ("order_id", "order_line", "sku", "quantity", "site")
SHIPMENT = ("shipment_id",)
POSTING = ("document_id", "amount", "currency")
REQUIRED_BY_TYPE = {
    "order.released": ORDER_LINE, "order.changed": ORDER_LINE, "order.cancelled": ORDER_LINE,
    "stock.allocated": ORDER_LINE, "pick.confirmed": ORDER_LINE,
    "dispatch.assigned": ("shipment_id", "order_id", "order_line", "quantity"),
    "gate.out": SHIPMENT, "delivery.arrived": SHIPMENT, "delivery.failed": SHIPMENT, "pod.received": SHIPMENT,
    "eta.updated": ("shipment_id", "estimated_for"),
    "return.initiated": ("order_id", "order_line", "quantity"),
    "return.received": ("order_id", "order_line", "quantity"),
    "invoice.posted": POSTING, "invoice.cancelled": POSTING, "payment.received": POSTING,
    "stock.moved": ("site", "sku", "quantity"), "stock.counted": ("site", "sku", "quantity"),
    "exception.resolved": ("trigger_key", "resolution", "resolved_by"),
    "event.retracted": ("ref_event_id",),
}

TIME_TEXT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", re.ASCII
)
DECIMAL_TEXT = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
EARLIEST = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
LATEST = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)


class Rejected(Exception):
    """A message that is not an event of the contract; `args[0]` is the rule that it breaks."""


def decode(raw):
    """The event in the bytes of one message, with defaults filled in and absent columns `None`."""
    record = parse(raw)
    if not isinstance(record, dict):
        raise Rejected("NOT_AN_OBJECT")
    for name in record:
        if name not in COLUMNS:
            raise Rejected("UNKNOWN_PROPERTY")
    for name in REQUIRED:
        if name not in record:
            raise Rejected("REQUIRED")
    event = {name: column(name, record[name]) if name in record else DEFAULTS.get(name) for name in sorted(COLUMNS)}
    for name in REQUIRED_BY_TYPE[event["event_type"]]:
        if event[name] is None:
            raise Rejected("REQUIRED")
    if event["event_type"] != "stock.moved":
        for name in ("quantity", "damaged_quantity", "refused_quantity"):
            if event[name] is not None and event[name] < 0:
                raise Rejected("OUT_OF_RANGE")
    return event


def parse(raw):
    """The JSON document in `raw`, with numbers as `Decimal`."""

    def pairs(items):
        keys = [key for key, _ in items]
        if len(set(keys)) != len(keys):
            raise Rejected("DUPLICATE_KEY")
        return dict(items)

    def constant(_name):
        raise Rejected("INVALID_JSON")

    try:
        text = raw.decode("utf-8").strip(" \t\r\n")
    except ValueError as error:
        raise Rejected("INVALID_UTF8") from error
    try:
        decoder = json.JSONDecoder(
            object_pairs_hook=pairs, parse_int=Decimal, parse_float=Decimal, parse_constant=constant
        )
        document, end = decoder.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise Rejected("INVALID_JSON") from error
    if end != len(text):
        raise Rejected("TRAILING_DATA")
    return document


def column(name, value):
    """The typed value of a column."""
    if value is None:
        if name in NEVER_NULL:
            raise Rejected("NULL_NOT_ALLOWED")
        return None
    if name in DECIMALS:
        return decimal(value)
    if not isinstance(value, str):
        raise Rejected("WRONG_TYPE")
    if name in TIMES:
        return instant(value)
    if name in CHOICES and value not in CHOICES[name]:
        raise Rejected("NOT_IN_ENUM")
    if len(value) > LONGEST.get(name, LONGEST_OTHERWISE):
        raise Rejected("MAX_LENGTH")
    return value


def decimal(value):
    """A decimal(18,3), from a JSON number or a string that looks like one; never rounded."""
    if isinstance(value, str):
        if not DECIMAL_TEXT.fullmatch(value):
            raise Rejected("INVALID_NUMBER")
        value = Decimal(value)
    if not isinstance(value, Decimal):
        raise Rejected("WRONG_TYPE")
    _, digits, exponent = value.as_tuple()
    significant = "".join(map(str, digits)).strip("0")
    trailing_zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    if significant and -(exponent + trailing_zeros) > 3:
        raise Rejected("DECIMAL_SCALE")
    if significant and value.adjusted() >= 15:
        raise Rejected("DECIMAL_PRECISION")
    return value


def instant(text):
    """A point in time with an offset, at most microseconds, within the years that the contract allows."""
    match = TIME_TEXT.fullmatch(text)
    if not match:
        raise Rejected("INVALID_TIMESTAMP")
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    if not offset:
        raise Rejected("MISSING_OFFSET")
    if fraction and len(fraction) > 6:
        raise Rejected("TOO_PRECISE")
    zone = datetime.timezone.utc
    if offset != "Z":
        minutes = int(offset[1:3]) * 60 + int(offset[4:6])
        zone = datetime.timezone(datetime.timedelta(minutes=minutes if offset[0] == "+" else -minutes))
    try:
        value = datetime.datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second),
            int((fraction or "0").ljust(6, "0")), zone,
        )
    except ValueError as error:
        raise Rejected("INVALID_TIMESTAMP") from error
    if value < EARLIEST:
        raise Rejected("OUT_OF_RANGE")
    if value > LATEST:
        raise Rejected("OUT_OF_RANGE")
    return value


def merge(paths):
    """The lines of the files in the order in which the demo sends them.

    By `recorded_at`; at ties the earlier file first, then the earlier line. A line whose `recorded_at` cannot be read
    goes right behind the line before it in its file.
    """
    lines = []
    for rank, path in enumerate(paths):
        last = EARLIEST
        with open(path, "rb") as file:
            for number, line in enumerate(file.read().splitlines()):
                last = recorded_at(line) or last
                lines.append((last, rank, number, line))
    return [line for _, _, _, line in sorted(lines)]


def recorded_at(raw):
    """The `recorded_at` of a message, if it can be read."""
    try:
        record = parse(raw)
        return instant(record["recorded_at"])
    except (Rejected, KeyError, TypeError):
        return None


def accept(lines):
    """The accepted events in order, and how many messages ended in each place.

    The first event of an id wins; the same again is a duplicate, and the same id with other content (`recorded_at` does
    not count) a dead letter.
    """
    events, counts, dead = {}, {"read": 0, "accepted": 0, "duplicate": 0}, {}
    for raw in lines:
        counts["read"] += 1
        try:
            event = decode(raw)
            first = events.get(event["event_id"])
            if first is None:
                events[event["event_id"]] = event
                counts["accepted"] += 1
            elif all(first[name] == event[name] for name in COLUMNS if name != "recorded_at"):
                counts["duplicate"] += 1
            else:
                raise Rejected("ID_CONFLICT")
        except Rejected as rejection:
            rule = rejection.args[0]
            dead[rule] = dead.get(rule, 0) + 1
    counts["dead_letters"] = {rule: dead[rule] for rule in sorted(dead)}
    return list(events.values()), counts
