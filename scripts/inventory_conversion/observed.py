"""The milestones that the log holds."""

from .log import LEDGER, OPENING, VENDOR_MANAGED, WAREHOUSE, LogEvent, sku
from .reference import OWNER_OF_POINT, SITES_WHERE_PICKS_MOVE, site_of

SOURCE = "inventory-log"
# Boxes are no item of an order: what packing needs stands on a line of its own.
PACKING_LINE = "packing"


def observed_events(log):
    """One event for each thing that the log says, sorted by time, then id."""
    events = [event for order in log.orders for event in of_order(order, log)]
    lines = {order.order_id: line_numbers(order) for order in log.orders}
    for point in OWNER_OF_POINT:
        opening = LogEvent(OPENING, log.opened_at)
        for item, quantity in log.change(OPENING, point).items():
            events.append({**of_item(opening, "count", "stock.counted", item, point), "quantity": quantity, "document_id": OPENING})
        for receipt in log.receipts:
            for item, quantity in log.change(receipt.event.event_id, point).items():
                events.append({**of_item(receipt.event, "move", "stock.moved", item, point), "quantity": quantity})
        for pick in log.picks:
            for item, quantity in log.change(pick.event.event_id, point).items():
                events += of_pick(pick, item, quantity, point, lines[pick.order_id])
    for pick in log.picks:
        # A pick that leaves something for a second parcel takes a box more from the ledger.
        for item, quantity in log.change(pick.event.event_id, LEDGER).items():
            events.append({**allocation(pick.event, pick.order_id, item), "quantity": -quantity})
    return sorted(events, key=lambda event: (event["recorded_at"], event["event_id"]))


def line_numbers(order):
    """10, 20, … in the order of the items' names."""
    return {item: str(position * 10) for position, item in enumerate(sorted(order.quantities), start=1)}


def of_item(event, step, event_type, item, point=WAREHOUSE):
    """An event about an item; the log knows one time, so it was recorded when it happened."""
    return {
        "event_id": f"{event.event_id}.{step}.{sku(item)}", "event_type": event_type, "occurred_at": event.time,
        "recorded_at": event.time, "source_system": SOURCE, "site": site_of(sku(item)), "sku": sku(item),
        "owner_id": OWNER_OF_POINT[point],
    }


def of_order(order, log):
    """What was ordered, and what was cancelled before anything was picked."""
    for item, line in line_numbers(order).items():
        of_line = {"order_id": order.order_id, "order_line": line, "quantity": order.quantities[item]}
        yield {**of_item(order.register, "release", "order.released", item), **of_line}
        if order.cancel:
            yield {**of_item(order.cancel, "cancel", "order.cancelled", item), **of_line}
    for item, quantity in log.change(order.register.event_id, LEDGER).items():
        if item not in order.quantities:
            yield {**allocation(order.register, order.order_id, item), "quantity": -quantity}
        elif quantity != -order.quantities[item]:
            raise ValueError(f"the ledger disagrees with {order.order_id} on {item}")


def allocation(event, order_id, item):
    """What the ledger sets aside for packing."""
    return {**of_item(event, "allocate", "stock.allocated", item), "order_id": order_id, "order_line": PACKING_LINE}


def of_pick(pick, item, quantity, point, lines):
    """A pick, and the movement of it where the site's picks don't move the stock themselves."""
    if quantity > 0:
        raise ValueError(f"a pick that adds stock: {pick.event.event_id}")
    of_line = {"order_id": pick.order_id, "order_line": lines.get(item, PACKING_LINE)}
    yield {**of_item(pick.event, "pick", "pick.confirmed", item, point), **of_line, "quantity": -quantity}
    if site_of(sku(item)) not in SITES_WHERE_PICKS_MOVE:
        yield {**of_item(pick.event, "move", "stock.moved", item, point), "quantity": quantity}
