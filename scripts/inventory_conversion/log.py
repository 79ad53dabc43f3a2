"""The inventory log (a quantity-related event log in SQLite) as orders, picks, receipts and two ledgers. Employees are not read."""

import collections
import gzip
import pathlib
import re
import sqlite3
import tempfile

from .text import instant

# The log's collection points: the ERP's ledger of what is available, and two physical ones.
LEDGER, WAREHOUSE, VENDOR_MANAGED = "Planning System", "Company Warehouse", "PADS Inventory (VMI)"
OPENING = "init"

REGISTER, CANCEL = "Register incoming Customer Order", "Cancel Customer Order"
PICK, SEND = "Pick and pack items for Customer Order", "Send Parcel to Customer"
ORDER_INBOUND, UNPACK, PLACE = "Place Replenishment Order", "Unpack Incoming Delivery", "Place delivered Items into Inventory"

Order = collections.namedtuple("Order", "order_id register cancel quantities")
# posted_at: when the ERP hears of it: the parcel is sent, or the delivery's last palette is placed; None: not in the log
Pick = collections.namedtuple("Pick", "event order_id posted_at")
Receipt = collections.namedtuple("Receipt", "event posted_at")
LogEvent = collections.namedtuple("LogEvent", "event_id time")


class InventoryLog:
    """What the log holds.

    `items`: the item types by name. `changes`: by event, collection point and item type, the signed change of quantity. `orders`,
    `picks`, `receipts` and `inbound_orders` (events) in order of time. `opened_at`: the first moment that the log knows, at which
    it counted everything.
    """

    def __init__(self, path):
        with tempfile.TemporaryDirectory() as folder:
            database = pathlib.Path(folder) / "log.sqlite"
            with gzip.open(path, "rb") as file:
                database.write_bytes(file.read())
            connection = sqlite3.connect(database)
            try:
                self.read(connection)
            finally:
                connection.close()

    def read(self, connection):
        """Reads all that is needed."""
        self.types = dict(connection.execute("SELECT ocel_id, ocel_type FROM event"))
        self.times = {}
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'event_[A-Z]*'"):
            for event_id, time in connection.execute(f'SELECT ocel_id, ocel_time FROM "{table}"'):
                self.times[event_id] = instant(time)
        self.items, self.changes = changes(connection, "quantity_operations", ("ocel_id", "ocel_cpid"))
        _, ordered = changes(connection, "object_quantity", ("ocel_id",))
        kinds = dict(connection.execute("SELECT ocel_id, ocel_type FROM object"))
        objects, events = collections.defaultdict(list), collections.defaultdict(list)
        for event_id, object_id in connection.execute("SELECT ocel_event_id, ocel_object_id FROM event_object"):
            objects[event_id].append(object_id)
            events[object_id].append(event_id)
        (opened_at,) = connection.execute("SELECT min(ocel_time) FROM object_CustomerOrder").fetchone()
        self.opened_at = instant(opened_at)

        def of_kind(event_id, kind):
            (found,) = [name for name in objects[event_id] if kinds[name] == kind]
            return found

        def event_of(object_id, kind):
            return next((self.event(name) for name in events[object_id] if self.types[name] == kind), None)

        self.orders = [
            Order(order, event_of(order, REGISTER), event_of(order, CANCEL), negated(ordered[(order,)]))
            for order in sorted(kinds, key=number)
            if kinds[order] == "Customer Order"
        ]
        posted_of_palette = {}
        for delivery in (name for name, kind in kinds.items() if kind == "Incoming Delivery"):
            palettes = [name for name in objects[event_of(delivery, UNPACK).event_id] if kinds[name] == "Palette"]
            placed = [event_of(palette, PLACE) for palette in palettes]
            done = None if None in placed else max(event.time for event in placed)
            posted_of_palette.update(dict.fromkeys(palettes, done))
        self.picks, self.receipts = [], []
        for event in self.of_type(PICK):
            sent = event_of(of_kind(event.event_id, "Parcel"), SEND)
            self.picks.append(Pick(event, of_kind(event.event_id, "Customer Order"), sent and sent.time))
        for event in self.of_type(PLACE):
            self.receipts.append(Receipt(event, posted_of_palette[of_kind(event.event_id, "Palette")]))
        self.inbound_orders = self.of_type(ORDER_INBOUND)

    def event(self, event_id):
        """An event with its time."""
        return LogEvent(event_id, self.times[event_id])

    def of_type(self, kind):
        """The events of a type in order of time, then id."""
        found = [self.event(event_id) for event_id, of_event in self.types.items() if of_event == kind]
        return sorted(found, key=lambda event: (event.time, number(event.event_id)))

    def change(self, event_id, point):
        """What an event did at a collection point, by item type."""
        return self.changes.get((event_id, point), {})


def changes(connection, table, keys):
    """The item types of a wide table, and by key its quantities other than zero by item type."""
    names = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
    items = sorted(set(names) - set(keys))
    columns = ", ".join(f'"{name}"' for name in (*keys, *items))
    found = {}
    for row in connection.execute(f'SELECT {columns} FROM "{table}"'):
        key, values = row[: len(keys)], row[len(keys) :]
        quantities = {item: value for item, value in zip(items, values) if value}
        # The log states some objects twice.
        if found.setdefault(key, quantities) != quantities:
            raise ValueError(f"two rows of {table} that differ: {key}")
    return items, found


def negated(quantities):
    """An order's quantities are negative in the log."""
    return {item: -value for item, value in quantities.items()}


def number(name):
    """`o-12` and `ev-12` by their numbers."""
    return int(name.partition("-")[2])


def sku(item):
    """An item type's name as an identifier: `BRAKE-CABLE-2`."""
    return re.sub(r"[^A-Z0-9]+", "-", item.upper()).strip("-")
