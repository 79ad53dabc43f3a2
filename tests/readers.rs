//! DuckDB, Polars and pyarrow read the tables that Milepost writes, and agree with what was published.

#![expect(clippy::disallowed_methods, reason = "the environment may name another Python")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListBuilder,
    StringViewArray, StringViewBuilder, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use milepost::sink::Stamp;
use milepost::sink::table::{FileLimits, TableMeta, TableStore};
use milepost::types::{Epoch, Micros};
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "readers/changing.rs"]
mod changing;
#[path = "readers/folders.rs"]
mod folders;

const PATH: &str = "kpi/everything";
const MINUTE: Micros = 60_000_000;

/// The Python that has the readers' packages.
fn python() -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/python/bin/python");
    let python = std::env::var_os("MILEPOST_PYTHON").map_or(fetched, PathBuf::from);
    assert!(
        python.exists(),
        "`{}` is missing: run `scripts/fetch-python`, which installs DuckDB, Polars and pyarrow there, or set \
         MILEPOST_PYTHON to a Python that has them",
        python.display()
    );
    python
}

fn script(mode: &str, table: &Path) -> Command {
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/read_table.py")).arg(mode).arg(table);
    command
}

fn values(table: &Path) -> Value {
    let output = script("values", table).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn meta(epoch: u64) -> TableMeta {
    let stamp = Stamp { epoch: Epoch(epoch), clock: Some(0), watermark: Some(0) };
    TableMeta { pipeline: "readers".to_owned(), job: "everything".to_owned(), stamp }
}

/// Three rows of every type that contracts and SQL give: values, nulls, and values at the edge.
fn everything() -> RecordBatch {
    let mut tags = ListBuilder::new(StringViewBuilder::new());
    tags.append_value([Some("a"), None, Some("longer than what a view holds in place")]);
    tags.append_null();
    tags.append_value::<[Option<&str>; 0], _>([]);
    let mut days = ListBuilder::new(Date32Array::builder(2));
    days.append_value([Some(20_000), None]);
    days.append_null();
    days.append_value([Some(-1)]);
    let money = |values: Vec<Option<i128>>, precision, scale| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).expect("a decimal"))
    };
    let parts = Fields::from(vec![
        Field::new("name", DataType::Utf8View, true),
        Field::new("amount", DataType::Decimal128(18, 3), true),
    ]);
    let part_columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec![Some("x"), None, None])),
        money(vec![Some(1_500), None, Some(0)], 18, 3),
    ];
    let instants = vec![Some(1_774_999_999_123_456), None, Some(-1)];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(StringViewArray::from(vec!["1", "2", "3"]))),
        ("text", Arc::new(StringViewArray::from(vec![Some("Größe €"), None, Some("")]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("count", Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(i64::MIN)]))),
        ("ratio", Arc::new(Float64Array::from(vec![Some(0.1), None, Some(-1e300)]))),
        ("amount", money(vec![Some(-1), None, Some(999_999_999_999_999_999)], 18, 3)),
        ("price", money(vec![Some(1_005_000), None, Some(-10i128.pow(27))], 28, 6)),
        ("at", Arc::new(TimestampMicrosecondArray::from(instants).with_timezone("UTC"))),
        ("day", Arc::new(Date32Array::from(vec![Some(20_000), None, Some(-1)]))),
        ("opens_at", Arc::new(Time64MicrosecondArray::from(vec![Some(0), None, Some(86_399_999_999)]))),
        ("tags", Arc::new(tags.finish())),
        ("days", Arc::new(days.finish())),
        ("part", Arc::new(StructArray::new(parts, part_columns, None))),
    ];
    let columns = columns.into_iter().map(|(name, array)| (name, array, name != "id"));
    RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
}

fn expected_rows() -> Value {
    json!([
        {
            "id": "1", "text": "Größe €", "flag": true, "count": i64::MAX, "ratio": "0.1", "amount": "-0.001",
            "price": "1.005000", "at": "2026-03-31T23:33:19.123456+00:00", "day": "2024-10-04",
            "opens_at": "00:00:00.000000", "tags": ["a", null, "longer than what a view holds in place"],
            "days": ["2024-10-04", null], "part": { "name": "x", "amount": "1.500" },
        },
        {
            "id": "2", "text": null, "flag": null, "count": null, "ratio": null, "amount": null, "price": null,
            "at": null, "day": null, "opens_at": null, "tags": null, "days": null,
            "part": { "name": null, "amount": null },
        },
        {
            "id": "3", "text": "", "flag": false, "count": i64::MIN, "ratio": "-1e+300",
            "amount": "999999999999999.999", "price": "-1000000000000000000000.000000",
            "at": "1969-12-31T23:59:59.999999+00:00", "day": "1969-12-31", "opens_at": "23:59:59.999999",
            "tags": [], "days": ["1969-12-31"], "part": { "name": null, "amount": "0.000" },
        },
    ])
}

#[test]
fn three_readers_see_the_values_that_were_published() {
    let home = TempDir::new().expect("a directory");
    let mut store = TableStore::open(home.path(), Path::new(PATH)).expect("open");
    let batch = everything();
    store.publish(std::slice::from_ref(&batch), &batch.schema(), &["id".to_owned()], &meta(1), 0).expect("published");
    let seen = values(&home.path().join(PATH));
    let mut expected = expected_rows();
    let by_text = |row: &Value| row["id"].to_string();
    expected.as_array_mut().expect("rows").sort_by_key(by_text);
    for reader in ["duckdb", "polars", "pyarrow"] {
        let mut rows = seen[reader]["rows"].clone();
        rows.as_array_mut().expect("rows").sort_by_key(by_text);
        assert_eq!(rows, expected, "{reader}");
    }
}

#[test]
fn three_readers_see_plain_types() {
    let home = TempDir::new().expect("a directory");
    let mut store = TableStore::open(home.path(), Path::new(PATH)).expect("open");
    store.publish(&[], &everything().schema(), &["id".to_owned()], &meta(1), 0).expect("published");
    let seen = values(&home.path().join(PATH));
    let expected = [
        ("text", "VARCHAR", "String", "string"),
        ("flag", "BOOLEAN", "Boolean", "bool"),
        ("count", "BIGINT", "Int64", "int64"),
        ("ratio", "DOUBLE", "Float64", "double"),
        ("amount", "DECIMAL(18,3)", "Decimal(precision=18, scale=3)", "decimal128(18, 3)"),
        ("price", "DECIMAL(28,6)", "Decimal(precision=28, scale=6)", "decimal128(28, 6)"),
        ("at", "TIMESTAMP WITH TIME ZONE", "Datetime(time_unit='us', time_zone='UTC')", "timestamp[us, tz=UTC]"),
        ("day", "DATE", "Date", "date32[day]"),
        ("opens_at", "TIME", "Time", "time64[us]"),
        ("tags", "VARCHAR[]", "List(String)", "list<element: string>"),
        ("days", "DATE[]", "List(Date)", "list<element: date32[day]>"),
    ];
    for (column, duckdb, polars, pyarrow) in expected {
        for (reader, wanted) in [("duckdb", duckdb), ("polars", polars), ("pyarrow", pyarrow)] {
            assert_eq!(seen[reader]["types"][column], wanted, "{reader}, {column}");
        }
        assert_eq!(seen["duckdb"]["rows"], json!([]));
    }
}

/// A reader in a process of its own that looks when it is told to.
struct Follower {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Follower {
    fn start(table: &Path) -> Self {
        let mut command = script("follow", table);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python runs");
        let commands = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, commands, answers }
    }

    fn ask(&mut self, command: &str) -> Value {
        writeln!(self.commands, "{command}").expect("written");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("read");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{command}: {error}: {answer:?}"))
    }

    fn stop(mut self) {
        drop(self.commands);
        assert!(self.process.wait().expect("ended").success());
    }
}

fn marks_schema() -> SchemaRef {
    let field = |name| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![field("id"), field("mark")]))
}

/// Publishes `rows` rows that all carry `mark`.
fn publish(store: &mut TableStore, rows: i64, mark: i64, now: Micros) -> usize {
    let marks = Int64Array::from_iter_values((0..rows).map(|_| mark));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..rows)), Arc::new(marks)];
    assert_eq!(columns[0].len(), columns[1].len());
    let batch = RecordBatch::try_new(marks_schema(), columns).expect("a batch");
    let epoch = u64::try_from(mark).expect("small");
    let version = store.publish(&[batch], &marks_schema(), &["id".to_owned()], &meta(epoch), now).expect("published");
    version.files.len()
}

#[test]
fn a_reader_sees_one_whole_version_while_others_are_published() {
    let home = TempDir::new().expect("a directory");
    let limits = FileLimits { rows_min: 100, rows_spread: 100, rows_max: 400, group_rows_max: 64 };
    let mut store = TableStore::open(home.path(), Path::new(PATH)).expect("open").with_limits(limits);
    let files = publish(&mut store, 1000, 1, 0);
    assert!(files > 2, "{files}");

    let mut reader = Follower::start(&home.path().join(PATH));
    let all = |rows: i64, mark: i64| {
        let one = json!([rows, rows, [mark]]);
        json!({ "duckdb": one, "polars": one, "pyarrow": one })
    };
    assert_eq!(reader.ask("glob"), all(1000, 1));
    assert_eq!(reader.ask("resolve"), json!(files));
    publish(&mut store, 2000, 2, MINUTE);
    assert_eq!(reader.ask("glob"), all(2000, 2));
    assert_eq!(reader.ask("first").as_i64().map(|rows| rows > 0 && rows < 1000), Some(true));
    publish(&mut store, 10, 3, 2 * MINUTE);
    publish(&mut store, 500, 4, 11 * MINUTE - 1);
    assert_eq!(reader.ask("rest"), json!([1000, 1000, [1]]));
    assert_eq!(reader.ask("glob"), all(500, 4));
    reader.stop();
}
