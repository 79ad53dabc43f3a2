"""Seeded draws, times and the text form of the files. Nothing here depends on a clock, a hash order or a locale."""

import datetime
import hashlib
import json
from decimal import Decimal

SEED = "milepost-orders-1"

FIELDS = (
    "event_id", "event_type", "classifier", "occurred_at", "estimated_for", "recorded_at", "source_system", "order_id",
    "order_line", "shipment_id", "customer_id", "site", "sku", "quantity", "damaged_quantity", "refused_quantity",
    "amount", "currency", "document_id", "signed_by", "reason_code", "trigger_key", "ref_event_id",
)


def draw(label, count):
    """A number from 0 to `count` - 1 that depends on the seed and the label alone."""
    digest = hashlib.sha256(f"{SEED}/{label}".encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") % count


def parse_time(text):
    """The instant of an RFC 3339 text with `Z`."""
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)


def time_text(moment):
    """RFC 3339 in UTC with `Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def later(text, **duration):
    """A time text moved by a `timedelta` of the given parts."""
    return time_text(parse_time(text) + datetime.timedelta(**duration))


def event_text(event):
    """One event as a line: the fields in the contract's order, those that are `None` or absent left out."""
    unknown = set(event) - set(FIELDS)
    if unknown:
        raise ValueError(f"fields not in the contract: {sorted(unknown)}")
    return row_text((name, event[name]) for name in FIELDS if event.get(name) is not None)


def row_text(pairs):
    """A JSON object on one line; decimals exactly as they are."""
    return "{" + ",".join(f"{json.dumps(name)}:{value_text(value)}" for name, value in pairs) + "}"


def value_text(value):
    """A JSON value."""
    if isinstance(value, Decimal):
        return format(value, "f")
    return json.dumps(value, ensure_ascii=False)
