"""Reads a table of Milepost with DuckDB, Polars and pyarrow, and says what each of them sees.

    read_table.py values PATH    one JSON document: {reader: {"types": {column: type}, "rows": [{column: value}]}}
    read_table.py folders PATH   the same of a table with partitions, for each way in which README.md reads one
    read_table.py follow PATH    takes commands from standard input, one a line, and answers each with one line of JSON

Values are written in one way whoever read them: decimals and times as strings, instants in UTC. The commands of
`follow` let another process say what happens between two looks at the table:

    glob      read through the path, as each reader globs
    resolve   resolve the path once and list its files
    first     read the first of these files
    rest      read the others, and answer for all of them
"""

import datetime
import decimal
import glob
import json
import os
import sys

import duckdb
import polars
import pyarrow
import pyarrow.dataset
import pyarrow.parquet


def canonical(value):
    if isinstance(value, dict):
        return {name: canonical(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).isoformat(timespec="microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return repr(value)
    return value


def with_duckdb(path):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    found = connection.sql("SELECT * FROM read_parquet(?) ORDER BY ALL", params=[f"{path}/*.parquet"])
    types = dict(zip(found.columns, map(str, found.types)))
    # As Arrow, because DuckDB's own Python values of instants need one package more.
    return types, found.to_arrow_table().to_pylist()


def with_polars(path):
    frame = polars.read_parquet(f"{path}/*.parquet")
    return {name: str(kind) for name, kind in frame.schema.items()}, frame.to_dicts()


def with_pyarrow(path):
    table = pyarrow.dataset.dataset(str(path), format="parquet").to_table()
    return {field.name: str(field.type) for field in table.schema}, table.to_pylist()


READERS = {"duckdb": with_duckdb, "polars": with_polars, "pyarrow": with_pyarrow}


def values(path):
    seen = {}
    for name, read in READERS.items():
        types, rows = read(path)
        rows = [canonical(row) for row in rows]
        seen[name] = {"types": types, "rows": sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))}
    print(json.dumps(seen))


def folders(path):
    """Reads a table with partitions; its third argument says their columns and Arrow types as JSON."""
    version = os.path.realpath(path)
    typed = [(column, getattr(pyarrow, kind)()) for column, kind in json.loads(sys.argv[3])]
    typed = pyarrow.dataset.partitioning(pyarrow.schema(typed), flavor="hive")
    with open(f"{path}/_current.json") as manifest:
        manifest = json.load(manifest)
    files = [f"{path}/../{manifest['directory']}/{file['name']}" for file in manifest["files"]]
    seen = {
        "duckdb": duckdb.read_parquet(f"{path}/**/*.parquet").to_arrow_table(),
        "duckdb, the files' own columns": duckdb.read_parquet(f"{path}/**/*.parquet", hive_partitioning=False).to_arrow_table(),
        "duckdb, files of _current.json": duckdb.read_parquet(files).to_arrow_table(),
        "polars": polars.scan_parquet(f"{path}/**/*.parquet").collect().to_arrow(),
        "polars, hive": polars.scan_parquet(f"{path}/**/*.parquet", hive_partitioning=True).collect().to_arrow(),
        "pyarrow": pyarrow.dataset.dataset(version, format="parquet").to_table(),
        "pyarrow, typed folders": pyarrow.dataset.dataset(version, format="parquet", partitioning=typed).to_table(),
        "pyarrow.parquet": pyarrow.parquet.read_table(version, partitioning=None),
    }
    for name, table in seen.items():
        types = {field.name: str(field.type).removeprefix("large_").replace("string_view", "string") for field in table.schema}
        rows = sorted(([canonical(row) for row in table.to_pylist()]), key=lambda row: row["id"])
        seen[name] = {"types": types, "rows": rows}
    print(json.dumps(seen))


def summary(rows):
    """Number of rows, of distinct ids, and the marks that occur."""
    return [len(rows), len({row["id"] for row in rows}), sorted({row["mark"] for row in rows})]


def follow(path):
    files, rows = [], []
    for line in sys.stdin:
        command = line.strip()
        if command == "glob":
            answer = {name: summary(read(path)[1]) for name, read in READERS.items()}
        elif command == "resolve":
            files = sorted(glob.glob(os.path.join(os.path.realpath(path), "*.parquet")))
            answer = len(files)
        elif command == "first":
            rows = pyarrow.parquet.read_table(files[0]).to_pylist()
            answer = len(rows)
        elif command == "rest":
            rows += [row for file in files[1:] for row in pyarrow.parquet.read_table(file).to_pylist()]
            answer = summary(rows)
        else:
            sys.exit(f"unknown command: {command}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    {"values": values, "folders": folders, "follow": follow}[sys.argv[1]](sys.argv[2])
