"""Times with microseconds, and the text form of the files. Nothing here depends on a clock, a hash order or a locale."""

import datetime
from decimal import Decimal

from order_conversion.text import draw as seeded_draw
from order_conversion.text import row_text

FIELDS = (
    "event_id", "event_type", "classifier", "occurred_at", "estimated_for", "recorded_at", "source_system", "order_id",
    "order_line", "site", "sku", "lot", "owner_id", "stock_type", "quantity", "uom", "document_id", "reason_code", "ref_event_id",
)


def draw(label, count):
    """A number from 0 to `count` - 1 that depends on the seed and the label alone."""
    return seeded_draw(f"inventory/{label}", count)


def instant(text):
    """The instant of a time text, which is UTC unless it says otherwise."""
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)


def time_text(moment):
    """RFC 3339 in UTC with `Z`; microseconds where there are any."""
    return moment.astimezone(datetime.timezone.utc).isoformat().replace("+00:00", "Z")


def event_text(event):
    """One event as a line: the fields in the contract's order, those that are `None` or absent left out."""
    unknown = set(event) - set(FIELDS)
    if unknown:
        raise ValueError(f"fields not in the contract: {sorted(unknown)}")
    return row_text((name, plain(event[name])) for name in FIELDS if event.get(name) is not None)


def row(fields):
    """A row of a reference file as a line."""
    return row_text((name, plain(value)) for name, value in fields.items() if value is not None)


def plain(value):
    """A value as it is written."""
    return time_text(value) if isinstance(value, datetime.datetime) else value


def decimal(text):
    """An exact number."""
    return Decimal(text)
