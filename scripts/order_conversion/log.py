"""The order log (OCEL 2.0, JSON) as orders, lines and packages. Employees are not read."""

import collections
import gzip
import json
import re
from decimal import Decimal

Line = collections.namedtuple("Line", "order_id order_line customer sku quantity unit_price released_at")
Package = collections.namedtuple("Package", "shipment_id customer contents created sent failed delivered")
LogEvent = collections.namedtuple("LogEvent", "event_id time")


class OrderLog:
    """What the log holds.

    `lines`: by (order, line). `packages`: by shipment; their contents are quantities by (order, line). `picks`: a log
    event and the (order, line) that the picked item belongs to. `payments`: a log event, the order, its price.
    """

    def __init__(self, path):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            document = json.load(file, parse_float=Decimal)
        objects = {entry["id"]: entry for entry in document["objects"]}
        self.products = {
            sku(entry["id"]): [
                (attribute["time"], attribute["value"]) for attribute in entry["attributes"] if attribute["name"] == "price"
            ]
            for entry in document["objects"]
            if entry["type"] == "products"
        }
        events = collections.defaultdict(list)
        for event in sorted(document["events"], key=lambda event: (event["time"], event["id"])):
            events[event["type"]].append(event)
        self.line_of_item = {}
        self.lines = self.read_lines(events["place order"], objects)
        self.packages = self.read_packages(events)
        self.picks = [
            (LogEvent(event["id"], event["time"]), self.line_of_item[item])
            for event in events["pick item"]
            for item in related(event, "item")
        ]
        self.payments = [
            (LogEvent(event["id"], event["time"]), order, attribute(objects[order], "price"))
            for event in events["pay order"]
            for order in related(event, "order")
        ]

    def read_lines(self, place_orders, objects):
        """One line per order and product, numbered 10, 20, … in the order of the products' names."""
        lines = {}
        for event in place_orders:
            (order,), (customer,) = related(event, "order"), related(event, "customer")
            items = collections.defaultdict(list)
            for item in related(event, "item"):
                items[related(objects[item], "is a")[0]].append(item)
            for number, product in enumerate(sorted(items), start=1):
                key = order, str(number * 10)
                prices = {attribute(objects[item], "price") for item in items[product]}
                if len(prices) != 1:
                    raise ValueError(f"items of one line at several prices: {key}")
                self.line_of_item.update((item, key) for item in items[product])
                lines[key] = Line(
                    order, key[1], customer, sku(product), len(items[product]), prices.pop(), event["time"]
                )
        return lines

    def read_packages(self, events):
        """The packages in the order of their creation."""
        sent = {related(event, "shipped package")[0]: event for event in events["send package"]}
        delivered = {related(event, "shipped package")[0]: event for event in events["package delivered"]}
        failed = collections.defaultdict(list)
        for event in events["failed delivery"]:
            failed[related(event, "shipped package")[0]].append(LogEvent(event["id"], event["time"]))
        packages = {}
        for event in events["create package"]:
            (shipment,) = related(event, "creates")
            contents = collections.Counter(self.line_of_item[item] for item in related(event, "item"))
            customers = {self.lines[key].customer for key in contents}
            if len(customers) != 1:
                raise ValueError(f"lines of several customers in one package: {shipment}")
            for step in (sent, delivered):
                if sorted(related(step[shipment], "item")) != sorted(related(event, "item")):
                    raise ValueError(f"contents change on the way: {shipment}")
            packages[shipment] = Package(
                shipment, customers.pop(), dict(sorted(contents.items())), LogEvent(event["id"], event["time"]),
                LogEvent(sent[shipment]["id"], sent[shipment]["time"]), tuple(failed[shipment]),
                LogEvent(delivered[shipment]["id"], delivered[shipment]["time"]),
            )
        return packages


def related(entry, qualifier):
    """The ids of the objects that an event or object names under a qualifier."""
    return [relation["objectId"] for relation in entry["relationships"] if relation["qualifier"] == qualifier]


def attribute(entry, name):
    """An attribute that never changes."""
    (value,) = [attribute["value"] for attribute in entry["attributes"] if attribute["name"] == name]
    return Decimal(value)


def sku(product):
    """A product's name as an identifier: `ECHO-SHOW-8`."""
    return re.sub(r"[^A-Z0-9]+", "-", product.upper()).strip("-")


def customer_id(name):
    """A customer's name as an identifier: `balkan-minerals-d-o-o`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
