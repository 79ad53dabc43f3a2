"""Reads what the pipeline `order_to_invoice` left, as its readers do, and compares it with expected values.

    check_order_to_invoice.py NATS_URL FOLDER EXPECTED COUNTED

FOLDER holds the Parquet tables, EXPECTED is what scripts/independent/order_to_invoice.py prints, and COUNTED is JSON:
the pipeline's status, and its dead letters by rule. Tables are read with pyarrow and with DuckDB, which must agree, and the
messages with a plain NATS client. Ends with status 1, and says where, if anything differs.
"""

import asyncio
import collections
import decimal
import json

import nats
from tables import PROBLEMS, arguments, check_counts, check_freshness, check_integration, differ, table, verdict

async def last_messages(url, stream):
    """The last message of each subject of a stream, and every (subject, revision) in stream order."""
    client = await nats.connect(url)
    context = client.jetstream()
    pending = (await context.stream_info(stream)).state.messages
    # With the markers, which stand among the changes and have another type.
    subscription = await context.subscribe(">", stream=stream, ordered_consumer=True)
    last, revisions = {}, []
    for _ in range(pending):
        message = await subscription.next_msg(timeout=30)
        headers = message.headers or {}
        if not message.data or headers.get("content-type") != "application/cloudevents+json":
            continue
        event = json.loads(message.data)
        last[message.subject] = event
        revisions.append((message.subject, event["revision"]))
    await client.close()
    return last, revisions


def standing(name, job, messages):
    """The rows that the last messages of a change stream leave, by key."""
    last, revisions = messages
    twice = [pair for pair, count in collections.Counter(revisions).items() if count > 1]
    differ(f"{name}: revisions that came twice", twice[:5], [])
    rows = {}
    for subject, event in last.items():
        kind = event["type"]
        if kind not in {f"milepost.{job}.{change}" for change in ("appeared", "changed", "revoked")}:
            PROBLEMS.append(f"{name}: {subject} has the type {kind}")
        if not kind.endswith(".revoked"):
            rows[event["data"]["trigger_key"]] = event["data"]
    return rows


def by_key(rows):
    keyed = {row["trigger_key"]: row for row in rows}
    differ("rows with a key of their own", len(keyed), len(rows))
    return keyed


def check_changes(folder, url, expected):
    """Triggers and exceptions: the table, the messages and the expected values are the same."""
    for job, stream, values, wanted in (
        (
            "invoice_triggers",
            "INVOICE_TRIGGERS",
            lambda row: {name: row[name] for name in ("basis", "quantity", "amount", "currency")},
            expected["validated"],
        ),
        ("invoice_exceptions", "INVOICE_EXCEPTIONS", lambda row: row["reasons"], expected["exceptions"]),
    ):
        rows = by_key(table(folder, job))
        messages = standing(stream, job, asyncio.run(last_messages(url, stream)))
        differ(f"{job}: messages against the table", messages, rows)
        differ(f"{job}: the table", {key: values(row) for key, row in rows.items()}, wanted)
        differ(f"{job}: messages", {key: values(row) for key, row in messages.items()}, wanted)


def check_states(folder, expected):
    rows = table(folder, "shipment_state")
    differ("states", dict(collections.Counter(row["state"] for row in rows)), expected["delivery_lines_by_state"])


def check_dispatch_sla(folder, expected):
    rows = table(folder, "kpi/dispatch_sla")
    differ("order lines whose deadline is still to come", sum(row["lines_open"] for row in rows), 0)
    found = {f"{row['day']} {row['site']}": [row["lines_on_time"], row["lines_due"]] for row in rows}
    days = expected["kpi_dispatch_sla"]
    wanted = {f"{row['day']} {row['site']}": [row["numerator"], row["denominator"]] for row in days}
    differ("dispatch in time", found, wanted)


def check_invoice_cycle_time(folder, expected):
    rows = [row for row in table(folder, "kpi/invoice_cycle_time") if row["invoices"]]
    found = {f"{row['grain']} {row['starts_on']} {row['site']}": row for row in rows}
    for name, row in found.items():
        mean = decimal.Decimal(row["delivery_to_posting_seconds_sum"]) / row["invoices"]
        near(f"mean of {name}", row["delivery_to_posting_seconds_mean"], mean, decimal.Decimal("0.001"))
    wanted = {f"{row['grain']} {row['starts_on']} {row['site']}": row for row in expected["kpi_invoice_cycle_time"]}
    sums = {name: [row["invoices"], int(row["delivery_to_posting_seconds_sum"])] for name, row in found.items()}
    differ("from delivery to invoice", sums, {name: [row["count"], row["sum_seconds"]] for name, row in wanted.items()})
    for name in found.keys() & wanted.keys():
        for which in ("p50", "p90"):
            right = wanted[name][f"{which}_seconds"]
            # the weight of the two nearest values is cut off behind six digits
            most = decimal.Decimal("0.001") + decimal.Decimal(right["between"]) / 1_000_000
            shown = found[name][f"delivery_to_posting_seconds_{which}"]
            near(f"{which} of {name}", shown, decimal.Decimal(right["value"]), most)


def near(what, found, expected, most):
    """Notes numbers that are further apart than they may be."""
    if found is None or abs(decimal.Decimal(found) - expected) > most:
        differ(what, found, expected)


def main():
    url, folder, expected, counted = arguments()
    check_counts(counted, expected)
    check_changes(folder, url, expected)
    check_states(folder, expected)
    check_dispatch_sla(folder, expected)
    check_invoice_cycle_time(folder, expected)
    check_integration(folder, "kpi/integration", expected)
    check_freshness(folder, "kpi/freshness", "order_to_invoice", counted, expected)
    verdict()


if __name__ == "__main__":
    main()
