"""The milestones that the log holds, and the invoices that follow from them by rule."""

from decimal import Decimal

from .log import customer_id
from .text import draw, later, parse_time, time_text

SOURCE = "order-log"
RECEIVERS = 40
INVOICE_DELAY_MINUTES = (120, 72 * 60)
FORGOTTEN_ONE_IN = 100


def observed_events(log, reference):
    """One event for each thing that the log says, sorted by time, then id."""
    events = []
    for line in log.lines.values():
        events.append(released(line, reference))
    for event, key in log.picks:
        line = log.lines[key]
        events.append({**of_line(event, "pick.confirmed", line, reference), "quantity": 1})
    for package in log.packages.values():
        events.extend(of_package(package, log, reference))
    for event, order, price in log.payments:
        customer = log.lines[order, "10"].customer
        events.append({
            **base(event.event_id, "payment.received", event.time), "order_id": order,
            "customer_id": customer_id(customer), "amount": price, "currency": reference.currency[customer],
            "document_id": f"PAY-{order}",
        })
    return sorted(events, key=lambda event: (event["recorded_at"], event["event_id"]))


def base(event_id, event_type, time):
    """What every observed event has; the log knows one time, so it was recorded when it happened."""
    return {
        "event_id": event_id, "event_type": event_type, "occurred_at": time, "recorded_at": time, "source_system": SOURCE,
    }


def of_line(event, event_type, line, reference):
    """An event about an order line."""
    return {
        **base(event.event_id, event_type, event.time), "order_id": line.order_id, "order_line": line.order_line,
        "site": reference.site[line.customer], "sku": line.sku,
    }


def released(line, reference):
    """`order.released`: one per order and product; the amount is that of the line's items."""
    return {
        **base(f"place_{line.order_id}.{line.order_line}", "order.released", line.released_at),
        "order_id": line.order_id, "order_line": line.order_line, "customer_id": customer_id(line.customer),
        "site": reference.site[line.customer], "sku": line.sku, "quantity": line.quantity,
        "amount": line.unit_price * line.quantity, "currency": reference.currency[line.customer],
    }


def of_package(package, log, reference):
    """The way of a package: contents and proof per delivery line, gate-out and failed deliveries as a whole."""
    shipment, site = package.shipment_id, reference.site[package.customer]
    yield {**base(package.sent.event_id, "gate.out", package.sent.time), "shipment_id": shipment, "site": site}
    for failure in package.failed:
        yield {**base(failure.event_id, "delivery.failed", failure.time), "shipment_id": shipment}
    receiver = f"receiver-{1 + draw(f'receiver/{shipment}', RECEIVERS)}"
    for (order, number), quantity in package.contents.items():
        line = {
            "order_id": order, "order_line": number, "shipment_id": shipment, "sku": log.lines[order, number].sku,
            "quantity": quantity,
        }
        created, delivered = package.created, package.delivered
        yield {**base(f"{created.event_id}.{order}.{number}", "dispatch.assigned", created.time), **line}
        yield {
            **base(f"{delivered.event_id}.{order}.{number}", "pod.received", delivered.time), **line,
            "signed_by": receiver,
        }


def derived_invoices(judge, order_lines, settled_at, until, trigger_key):
    """`invoice.posted` of every delivery line that may be invoiced: a seeded delay after that was so.

    That is the moment of the basis, or later where injected events settled the line (`settled_at`). What would be posted
    after `until` is not posted yet, and one line in a hundred is forgotten, so that something is left to be invoiced.
    """
    events = []
    for key, line in judge.lines.items():
        if not line["validated"]:
            continue
        trigger = trigger_key(key)
        since = max(time_text(line["since"]), settled_at.get(key[0], ""))
        low, high = INVOICE_DELAY_MINUTES
        posted = later(since, minutes=low + draw(f"invoice/{trigger}", high - low), seconds=draw(f"seconds/{trigger}", 60))
        if parse_time(posted) > until or draw(f"forgotten/{trigger}", FORGOTTEN_ONE_IN) == 0:
            continue
        order_line = order_lines[key[1:]]
        events.append({
            "event_id": f"invoice.{'.'.join(key)}", "event_type": "invoice.posted", "occurred_at": posted,
            "recorded_at": posted, "source_system": "derived", "shipment_id": key[0], "order_id": key[1],
            "order_line": key[2], "customer_id": order_line["customer_id"], "quantity": Decimal(line["accepted"]),
            "amount": line["amount"], "currency": order_line["currency"], "trigger_key": trigger,
        })
    events.sort(key=lambda event: (event["recorded_at"], event["event_id"]))
    for number, event in enumerate(events, start=1):
        event["document_id"] = f"INV-{number:06}"
    return events
