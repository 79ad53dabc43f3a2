"""Writes input files as other programs do, for Milepost to read.

    write_inputs.py same EVENTS FOLDER     the events of an NDJSON file, as Parquet of each writer
    write_inputs.py traps FOLDER           small files, each with something that its contract may not take
"""

import datetime
import decimal
import json
import sys
from pathlib import Path

import duckdb
import polars
import pyarrow
import pyarrow.parquet

UTC = datetime.timezone.utc


def typed(event):
    """An event with values of its columns' types."""
    row = dict.fromkeys(["id", "text", "kind", "amount", "ratio", "flag", "day", "clock", "at", "size", "tags"])
    row.update(event)
    if row["amount"] is not None:
        row["amount"] = decimal.Decimal(row["amount"])
    if row["day"] is not None:
        row["day"] = datetime.date.fromisoformat(row["day"])
    if row["clock"] is not None:
        row["clock"] = datetime.time.fromisoformat(row["clock"])
    if row["at"] is not None:
        row["at"] = datetime.datetime.fromisoformat(row["at"]).astimezone(UTC)
    if row["size"] is not None:
        row["size"] = {"unit": row["size"].get("unit"), "value": row["size"].get("value")}
    return row


def arrow_schema(text, integer, money, instant, list_of):
    return pyarrow.schema(
        [
            ("id", integer),
            ("text", text),
            ("kind", pyarrow.dictionary(pyarrow.int8(), pyarrow.string())),
            ("amount", money),
            ("ratio", pyarrow.float64()),
            ("flag", pyarrow.bool_()),
            ("day", pyarrow.date32()),
            ("clock", pyarrow.time64("us")),
            ("at", instant),
            ("size", pyarrow.struct([("unit", text), ("value", integer)])),
            ("tags", list_of(text)),
        ]
    )


def with_pyarrow(rows, folder):
    plain = arrow_schema(
        pyarrow.string(), pyarrow.int64(), pyarrow.decimal128(12, 2), pyarrow.timestamp("us", "UTC"), pyarrow.list_
    )
    table = pyarrow.Table.from_pylist(rows, schema=plain)
    pyarrow.parquet.write_table(table, folder / "pyarrow.parquet", row_group_size=700, compression="zstd")
    large = arrow_schema(
        pyarrow.large_string(),
        pyarrow.int32(),
        pyarrow.decimal128(30, 4),
        pyarrow.timestamp("ns", "Europe/Berlin"),
        pyarrow.large_list,
    )
    table = pyarrow.Table.from_pylist(rows, schema=large)
    pyarrow.parquet.write_table(
        table, folder / "pyarrow_large.parquet", compression="gzip", data_page_version="2.0", data_page_size=4_096
    )
    # Without Arrow's own schema, as engines write that know no Arrow.
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows, schema=plain),
        folder / "pyarrow_bare.parquet",
        compression="lz4",
        use_dictionary=False,
        store_schema=False,
    )


def with_duckdb(rows, events, folder):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    columns = """{id: 'BIGINT', text: 'VARCHAR', kind: 'VARCHAR', amount: 'DECIMAL(12, 2)', ratio: 'DOUBLE',
        flag: 'BOOLEAN', day: 'DATE', clock: 'TIME', 'at': 'TIMESTAMPTZ', size: 'STRUCT(unit VARCHAR, value INTEGER)',
        tags: 'VARCHAR[]'}"""
    query = f"SELECT * REPLACE (kind::ENUM ('a', 'b') AS kind) FROM read_ndjson(?, columns = {columns})"
    connection.execute(f"CREATE TABLE events AS {query}", [str(events)])
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (len(rows),)
    connection.execute(f"COPY events TO '{folder}/duckdb.parquet' (FORMAT parquet, ROW_GROUP_SIZE 2048)")


def with_polars(rows, folder):
    frame = polars.DataFrame(
        rows,
        schema={
            "id": polars.Int64,
            "text": polars.String,
            "kind": polars.Categorical,
            "amount": polars.Decimal(12, 2),
            "ratio": polars.Float64,
            "flag": polars.Boolean,
            "day": polars.Date,
            "clock": polars.Time,
            "at": polars.Datetime("us", "UTC"),
            "size": polars.Struct({"unit": polars.String, "value": polars.Int32}),
            "tags": polars.List(polars.String),
        },
    )
    frame.write_parquet(folder / "polars.parquet", row_group_size=900, compression="snappy")


def same(events, folder):
    rows = [typed(json.loads(line)) for line in open(events, encoding="utf-8")]
    with_pyarrow(rows, folder)
    with_duckdb(rows, events, folder)
    with_polars(rows, folder)


def trap(folder, name, columns, **options):
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet", **options)


def traps(folder):
    ids = pyarrow.array([1, 2, 3])
    texts = pyarrow.array(["one", "two", "three"])

    def column(name, values, kind, **options):
        trap(folder, options.pop("file"), {"id": ids, "text": texts, name: pyarrow.array(values, kind)}, **options)

    money = [decimal.Decimal("1.2500"), decimal.Decimal("1.2345"), None]
    column("amount", money, pyarrow.decimal128(20, 4), file="decimal_scale")
    wide = [decimal.Decimal(7), decimal.Decimal(10**11), None]
    column("amount", wide, pyarrow.decimal256(60, 0), file="decimal_wide")
    column("amount", [1.25, 2.0, None], pyarrow.float64(), file="decimal_float")
    column("amount", [1, -2, 10**10], pyarrow.int64(), file="decimal_integer")
    at = 1_769_868_000_123_456_000
    column("at", [at, at + 1, None], pyarrow.timestamp("ns", "UTC"), file="nanoseconds")
    column("at", [at // 1000, None, 0], pyarrow.timestamp("us"), file="local_time")
    column(
        "at",
        [at, None, 0],
        pyarrow.timestamp("ns"),
        file="int96",
        use_deprecated_int96_timestamps=True,
        store_schema=False,
    )
    column("at", [datetime.date(2026, 1, 31), None, None], pyarrow.date32(), file="date_for_instant")
    column("day", [at // 1000, None, None], pyarrow.timestamp("us", "UTC"), file="instant_for_date")
    column("ratio", [0.5, float("nan"), float("inf")], pyarrow.float64(), file="not_a_number")
    column("kind", ["a", "c", None], pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), file="enum")
    column("size", ["5 EA", None, None], pyarrow.string(), file="text_for_object")
    column("flag", [1, 0, None], pyarrow.int8(), file="integer_for_boolean")
    column("amount", [None, None, None], pyarrow.null(), file="nulls")
    column("amount", [decimal.Decimal(1)] * 3, pyarrow.decimal128(12, 2), file="brotli", compression="brotli")
    trap(folder, "null_in_required", {"id": ids, "text": pyarrow.array(["one", None, "three"])})
    trap(folder, "unsigned", {"id": pyarrow.array([1, 2**63, 3], pyarrow.uint64()), "text": texts})
    trap(folder, "float_for_integer", {"id": pyarrow.array([1.0, 1.5, 3.0]), "text": texts})
    trap(folder, "no_id", {"text": texts})
    trap(folder, "upper_case", {"ID": ids, "text": texts})
    trap(folder, "nothing", {"id": ids[:0], "text": texts[:0]})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["same", events, folder]:
            same(events, Path(folder))
        case ["traps", folder]:
            traps(Path(folder))
        case _:
            sys.exit(__doc__)
