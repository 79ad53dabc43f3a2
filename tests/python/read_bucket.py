"""Reads a table that lies in an S3-compatible store as README.md says, and prints its rows by reader.

    read_bucket.py s3://BUCKET/PREFIX
"""

import json
import os
import sys

import polars
import pyarrow.dataset
import pyarrow.fs

table = sys.argv[1].removeprefix("s3://")
store = pyarrow.fs.S3FileSystem(
    endpoint_override=os.environ["AWS_ENDPOINT_URL"], scheme="http", region=os.environ["AWS_REGION"]
)
with store.open_input_stream(f"{table}/_current.json") as pointer:
    files = [file["name"] for file in json.load(pointer)["files"]]
seen = {}

rows = pyarrow.dataset.dataset([f"{table}/{file}" for file in files], filesystem=store, format="parquet").to_table()
seen["pyarrow"] = rows.to_pylist()

options = {"aws_endpoint_url": os.environ["AWS_ENDPOINT_URL"], "aws_allow_http": "true"}
rows = polars.scan_parquet([f"s3://{table}/{file}" for file in files], storage_options=options).collect()
seen["polars"] = rows.to_dicts()

print(json.dumps({reader: sorted([row["id"], str(row["day"]), row["site"]] for row in rows) for reader, rows in seen.items()}))
