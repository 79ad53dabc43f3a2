"""What the checks of the shipped pipelines share: tables as their readers see them, and what differs from what was expected."""

import datetime
import decimal
import glob
import json
import os
import sys

import duckdb
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
    version = os.path.realpath(os.path.join(folder, name))
    files = sorted(glob.glob(os.path.join(version, "**", "*.parquet"), recursive=True))
    if not files:
        sys.exit(f"there is no table {name}")
    by_pyarrow = [row for file in files for row in pyarrow.parquet.read_table(file, partitioning=None).to_pylist()]
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    query = connection.sql("SELECT * FROM read_parquet(?)", params=[os.path.join(folder, name, "**", "*.parquet")])
    by_duckdb = query.to_arrow_table().to_pylist()
    first, second = ([canonical_row(row) for row in rows] for rows in (by_pyarrow, by_duckdb))

    def in_order(rows):
        return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))

    if in_order(first) != in_order(second):
        PROBLEMS.append(f"{name}: pyarrow and DuckDB do not read the same")
    return first


def canonical_row(row):
    return {name: canonical(value) for name, value in row.items()}


def check_counts(counted, expected):
    """Every message ended in one place."""
    counts = expected["counts"]
    source = next(source for source in counted["status"]["sources"] if source["source"] == "milestones")
    dead_letters = sum(counts["dead_letters"].values())
    wanted = {name: counts[name] for name in ("read", "accepted", "duplicate")}
    wanted |= {"late": 0, "dead_letters": dead_letters}
    differ("events by outcome", {name: source[name] for name in wanted}, wanted)
    differ("dead letters by rule", counted["dead_letters"], counts["dead_letters"])
    watermark = datetime.datetime.fromtimestamp(counted["status"]["watermark_us"] / 1_000_000, datetime.timezone.utc)
    differ("watermark", watermark.strftime("%Y-%m-%dT%H:%M:%SZ"), expected["watermark"])


def check_integration(folder, name, expected):
    """What became of the events of each source."""
    names = ("events_read", "events_accepted", "events_duplicate", "events_late", "dead_letters")
    rows = table(folder, name)
    differ("events by source", {row["source"]: [row[name] for name in names] for row in rows}, expected["kpi_integration"])


def check_freshness(folder, name, pipeline, counted, expected):
    """The one row that says how far the tables are."""
    rows = table(folder, name)
    differ("rows of kpi_freshness", len(rows), 1)
    for row in rows:
        watermark = datetime.datetime.fromisoformat(row["watermark"]).strftime("%Y-%m-%dT%H:%M:%SZ")
        differ("watermark of kpi_freshness", watermark, expected["watermark"])
        differ("epoch of kpi_freshness", row["epoch"], counted["status"]["epoch"])
        differ("pipeline of kpi_freshness", row["pipeline"], pipeline)


def arguments():
    """NATS_URL, FOLDER, and what EXPECTED and COUNTED hold."""
    url, folder, *paths = sys.argv[1:]
    documents = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            documents.append(json.load(file))
    return url, folder, *documents


def verdict():
    """Ends with status 1 if anything differed."""
    if PROBLEMS:
        sys.exit("\n".join(PROBLEMS))
