"""The ERP's stock, which the log has not: it follows from the planning ledger.

The ledger is one of availability: it falls when an order is registered and rises when replenishment is ordered. So what the ERP
holds as stock is planned + open orders - open inbound, as far as the ERP has heard: an issue is posted when its parcel is sent, a
receipt when the last palette of its delivery is placed.
"""

import collections
import datetime

from .log import LEDGER, OPENING, WAREHOUSE, sku
from .reference import SNAPSHOT_TIMES, site_of
from .text import row

SOURCE = "derived"


class Ledger:
    """The postings of the ERP, in time: what moved the ledger, and what opened and closed orders and inbound."""

    def __init__(self, log):
        self.postings = []
        for item, quantity in log.change(OPENING, LEDGER).items():
            self.post(log.opened_at, item, "planned", quantity)
        reserving = [order.register for order in log.orders] + [pick.event for pick in log.picks]
        for event in reserving:
            for item, quantity in log.change(event.event_id, LEDGER).items():
                self.post(event.time, item, "planned", quantity)
                self.post(event.time, item, "open_orders", -quantity)
        for event in log.inbound_orders:
            for item, quantity in log.change(event.event_id, LEDGER).items():
                self.post(event.time, item, "planned", quantity)
                self.post(event.time, item, "open_inbound", quantity)
        for pick in log.picks:
            for item, quantity in log.change(pick.event.event_id, WAREHOUSE).items():
                self.post(pick.posted_at, item, "open_orders", quantity)
        for receipt in log.receipts:
            for item, quantity in log.change(receipt.event.event_id, WAREHOUSE).items():
                self.post(receipt.posted_at, item, "open_inbound", -quantity)
        self.items = sorted(log.change(OPENING, LEDGER))
        self.ends_at = max(log.times.values())

    def post(self, time, item, account, quantity):
        """Notes a posting; what the log never posts is left out."""
        if time is not None:
            self.postings.append((time, item, account, quantity))

    def at(self, moment):
        """The accounts of every item as they stand at a moment."""
        accounts = {item: collections.Counter(planned=0, open_orders=0, open_inbound=0) for item in self.items}
        for time, item, account, quantity in self.postings:
            if time <= moment:
                accounts[item][account] += quantity
        return accounts

    def snapshots(self):
        """Each site's moments, in time: once a week as long as the log lasts."""
        day = min(time for time, *_ in self.postings).date()
        while day.isoweekday() != 7:
            day += datetime.timedelta(days=1)
        while day <= self.ends_at.date():
            for site, time in sorted(SNAPSHOT_TIMES.items()):
                yield site, datetime.datetime.combine(day, time, datetime.timezone.utc)
            day += datetime.timedelta(days=7)


def erp_stock_rows(ledger):
    """The rows of all snapshots: every item of the site, also where nothing is left."""
    rows = []
    for site, as_of in ledger.snapshots():
        accounts = ledger.at(as_of)
        for item in ledger.items:
            if site_of(sku(item)) == site:
                rows.append(erp_stock_row(site, sku(item), as_of, accounts[item]))
    return rows


def erp_stock_row(site, name, as_of, account):
    """One position."""
    return {
        "site": site, "sku": name, "lot": "", "stock_type": "unrestricted", "owner_id": "",
        "quantity": account["planned"] + account["open_orders"] - account["open_inbound"], "as_of": as_of,
        "available_quantity": account["planned"], "open_order_quantity": account["open_orders"],
        "open_inbound_quantity": account["open_inbound"], "source_system": SOURCE,
    }


def erp_stock_ndjson(rows):
    """The rows as lines."""
    return [row(fields) for fields in rows]
