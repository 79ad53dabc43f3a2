"""Reads a table of Milepost over and over while another process changes it, and says what each read found.

    read_loop.py READER TABLE LAYOUT

READER is one of `duckdb-glob` (through the path), `duckdb-current` (through `_current.json`) and `pyarrow` (the path resolved
once); LAYOUT is `flat` or `partitioned`. Each read is one line of JSON: {"epoch": e} if it saw the table as it stood after
epoch e, {"again": why} if a glob met names that were gone when it came to them, {"wrong": what} for everything else. It ends
when standard input does.

The table moves one row an epoch from one of eight sites to another, and stamps all rows of both with the epoch: so every
epoch is a table of its own, every mixture of two is none, and what each epoch holds can be worked out here.
"""

import json
import os
import sys
import threading

import duckdb
import pyarrow.dataset

SITES, ROWS = 8, 40


class Epochs:
    """What the table holds after each epoch; the writer's test works it out in the same way."""

    def __init__(self):
        self.tables = [None, {row: (f"s{row % SITES}", 1) for row in range(ROWS)}]

    def __getitem__(self, epoch):
        while len(self.tables) <= epoch:
            self.tables.append(self.following(len(self.tables)))
        return self.tables[epoch]

    def following(self, epoch):
        table = dict(self.tables[epoch - 1])
        giving = epoch % SITES
        taking = (giving + 1 + epoch // SITES % (SITES - 1)) % SITES
        giving, taking = f"s{giving}", f"s{taking}"
        moving = min((row for row, (site, _) in table.items() if site == giving), default=None)
        for row, (site, _) in table.items():
            if row == moving:
                table[row] = (taking, epoch)
            elif site in (giving, taking):
                table[row] = (site, epoch)
        return table


EPOCHS = Epochs()


def one_epoch(rows):
    """The epoch whose table this is: nothing else will do."""
    table = {row: (site, stamp) for site, row, stamp in rows}
    epoch = max((stamp for _, _, stamp in rows), default=0)
    if len(table) != len(rows):
        raise Wrong(f"{len(rows) - len(table)} rows twice, at epoch {epoch}")
    if epoch == 0 or table != EPOCHS[epoch]:
        raise Wrong(f"not what epoch {epoch} left, nor any other")
    return epoch


def whole_rows(rows):
    """The newest epoch of rows that each stood in the table once, none of them twice."""
    table = {row: (site, stamp) for site, row, stamp in rows}
    if len(table) != len(rows):
        raise Wrong(f"{len(rows) - len(table)} rows twice")
    for row, (site, stamp) in table.items():
        if EPOCHS[stamp].get(row) != (site, stamp):
            raise Wrong(f"row {row} never stood in {site} with stamp {stamp}")
    return max(stamp for _, stamp in table.values())


def duckdb_glob(table, layout):
    pattern = "*.parquet" if layout == "flat" else "*/*.parquet"
    try:
        rows = duckdb.connect().sql(f"SELECT site, id, stamp FROM '{table}/{pattern}'").fetchall()
    except duckdb.IOException as error:
        # The version changed between the listing and the reading. Nothing else is an excuse.
        if "No such file" in str(error) or "No files found" in str(error):
            raise Again(str(error)) from error
        raise
    # A listing of several folders may meet two versions; a listing of one can't.
    return one_epoch(rows) if layout == "flat" else whole_rows(rows)


def duckdb_current(table, layout):
    connection = duckdb.connect()
    connection.execute(f"""
        SET VARIABLE files = (
            SELECT list('{table}/../' || directory || '/' || file.name)
            FROM (SELECT directory, unnest(files) AS file FROM '{table}/_current.json')
        )
    """)
    rows = connection.sql("SELECT site, id, stamp FROM read_parquet(getvariable('files'))").fetchall()
    return one_epoch(rows)


def pyarrow_dataset(table, layout):
    version = os.path.realpath(table)
    rows = pyarrow.dataset.dataset(version, format="parquet").to_table(columns=["site", "id", "stamp"])
    return one_epoch(list(zip(*rows.to_pydict().values())))


class Wrong(Exception):
    pass


class Again(Exception):
    pass


READERS = {"duckdb-glob": duckdb_glob, "duckdb-current": duckdb_current, "pyarrow": pyarrow_dataset}


def main(reader, table, layout):
    read, stop, last = READERS[reader], threading.Event(), 0
    duckdb.execute("SET threads = 1")
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    while not stop.is_set():
        try:
            epoch = read(table, layout)
            found = {"epoch": epoch}
            if epoch < last:
                found = {"wrong": f"epoch {epoch} after epoch {last}"}
            last = epoch
        except Again as why:
            found = {"again": str(why)}
        except Exception as error:  # whatever a reader makes of a file that is not whole
            found = {"wrong": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
