"""Reads what the pipeline `order_to_invoice` left, as its readers do, and compares it with expected values.

    check_order_to_invoice.py NATS_URL FOLDER EXPECTED COUNTED

FOLDER holds the Parquet tables, EXPECTED is what scripts/independent/order_to_invoice.py prints, and COUNTED is JSON:
the pipeline's status, and its dead letters by rule. Tables are read with pyarrow and with DuckDB, which must agree, and the
messages with a plain NATS client. Ends with status 1, and says where, if anything differs.
"""

import asyncio
import collections
import datetime
import decimal
import glob
import json
import os
import sys

import duckdb
import nats
import pyarrow.parquet

PROBLEMS = []


def differ(what, found, expected):
    """Notes a difference; of two objects the first few entries that differ."""
    if found == expected:
        return
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = [key for key in sorted({*found, *expected}) if found.get(key) != expected.get(key)]
        for key in keys[:5]:
            PROBLEMS.append(f"{what}: {key}: found {found.get(key)}, expected {expected.get(key)}")
        PROBLEMS.append(f"{what}: {len(keys)} differ of {len(expected)}")
    else:
        PROBLEMS.append(f"{what}: found {found}, expected {expected}")


def canonical(value):
    """A value as it stands in a message."""
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return value


def table(folder, name):
    """The rows of a table, read by two readers that must agree."""
    files = sorted(glob.glob(os.path.join(os.path.realpath(os.path.join(folder, name)), "*.parquet")))
    if not files:
        sys.exit(f"there is no table {name}")
    by_pyarrow = [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    query = connection.sql("SELECT * FROM read_parquet(?)", params=[os.path.join(folder, name, "*.parquet")])
    by_duckdb = query.to_arrow_table().to_pylist()
    first, second = ([canonical_row(row) for row in rows] for rows in (by_pyarrow, by_duckdb))

    def in_order(rows):
        return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))

    if in_order(first) != in_order(second):
        PROBLEMS.append(f"{name}: pyarrow and DuckDB do not read the same")
    return first


def canonical_row(row):
    return {name: canonical(value) for name, value in row.items()}


async def last_messages(url, stream):
    """The last message of each subject of a stream, and every (subject, revision) in stream order."""
    client = await nats.connect(url)
    context = client.jetstream()
    pending = (await context.stream_info(stream)).state.messages
    subscription = await context.subscribe("invoice.>", stream=stream, ordered_consumer=True)
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
    found = collections.defaultdict(lambda: [0, 0])
    for row in table(folder, "kpi/invoice_cycle_time"):
        if row["grain"] == "day" and row["invoices"]:
            found[row["starts_on"]][0] += row["invoices"]
            found[row["starts_on"]][1] += int(row["delivery_to_posting_seconds_sum"])
            mean = decimal.Decimal(row["delivery_to_posting_seconds_sum"]) / row["invoices"]
            shown = decimal.Decimal(row["delivery_to_posting_seconds_mean"])
            if abs(mean - shown) > decimal.Decimal("0.001"):
                differ(f"mean of {row['starts_on']}, {row['site']}", shown, mean)
    wanted = {row["day"]: [row["count"], row["sum_seconds"]] for row in expected["kpi_invoice_cycle_time"]}
    differ("from delivery to invoice", dict(found), wanted)


def check_integration(folder, expected):
    names = ("events_read", "events_accepted", "events_duplicate", "events_late", "dead_letters")
    rows = table(folder, "kpi/integration")
    differ("events by source", {row["source"]: [row[name] for name in names] for row in rows}, expected["kpi_integration"])


def check_freshness(folder, counted, expected):
    rows = table(folder, "kpi/freshness")
    differ("rows of kpi_freshness", len(rows), 1)
    for row in rows:
        watermark = datetime.datetime.fromisoformat(row["watermark"]).strftime("%Y-%m-%dT%H:%M:%SZ")
        differ("watermark of kpi_freshness", watermark, expected["watermark"])
        differ("epoch of kpi_freshness", row["epoch"], counted["status"]["epoch"])
        differ("pipeline of kpi_freshness", row["pipeline"], "order_to_invoice")


def check_counts(counted, expected):
    counts = expected["counts"]
    source = next(source for source in counted["status"]["sources"] if source["source"] == "milestones")
    dead_letters = sum(counts["dead_letters"].values())
    wanted = {name: counts[name] for name in ("read", "accepted", "duplicate")}
    wanted |= {"late": 0, "dead_letters": dead_letters}
    differ("events by outcome", {name: source[name] for name in wanted}, wanted)
    differ("dead letters by rule", counted["dead_letters"], counts["dead_letters"])
    watermark = datetime.datetime.fromtimestamp(counted["status"]["watermark_us"] / 1_000_000, datetime.timezone.utc)
    differ("watermark", watermark.strftime("%Y-%m-%dT%H:%M:%SZ"), expected["watermark"])


def main():
    url, folder, expected_path, counted_path = sys.argv[1:]
    with open(expected_path, encoding="utf-8") as file:
        expected = json.load(file)
    with open(counted_path, encoding="utf-8") as file:
        counted = json.load(file)
    check_counts(counted, expected)
    check_changes(folder, url, expected)
    check_states(folder, expected)
    check_dispatch_sla(folder, expected)
    check_invoice_cycle_time(folder, expected)
    check_integration(folder, expected)
    check_freshness(folder, counted, expected)
    if PROBLEMS:
        sys.exit("\n".join(PROBLEMS))


if __name__ == "__main__":
    main()
