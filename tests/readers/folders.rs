//! The folders of partitioned tables mean to every reader what they mean to Milepost, whatever the values are.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, StringViewArray};
use arrow::record_batch::RecordBatch;
use milepost::sink::Stamp;
use milepost::sink::table::{Publication, Published, Scope, TableMeta, TableStore};
use milepost::state::{Delta, Table};
use milepost::types::Epoch;
use serde_json::{Value, json};
use tempfile::TempDir;

const PATH: &str = "kpi/folders";

/// Values that a folder's name, a URL or a glob could mistake for something else.
const SITES: [Option<&str>; 20] = [
    Some("BER1"),
    None,
    Some("a/b"),
    Some("ä ö"),
    Some("100%"),
    Some("%2F"),
    Some("x=y"),
    Some("007"),
    Some(""),
    Some("2024-01-01"),
    Some("a+b"),
    Some("q?*[x]{y}"),
    Some("'\"\\"),
    Some("line\nbreak"),
    Some("#h"),
    Some("s3://x"),
    Some(".."),
    Some("null"),
    Some("a,b;c"),
    Some("日本"),
];

fn rows() -> RecordBatch {
    let numbers = || 0..i64::try_from(SITES.len()).expect("few");
    let days = numbers().map(|id| [Some(19_800), None, Some(-1)][usize::try_from(id % 3).expect("small")]);
    let lines = numbers().map(|id| [Some(1), Some(-7), None, Some(i64::MAX)][usize::try_from(id % 4).expect("small")]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(numbers()))),
        ("site", Arc::new(StringViewArray::from_iter(SITES))),
        ("day", Arc::new(days.collect::<Date32Array>())),
        ("line", Arc::new(lines.collect::<Int64Array>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, name != "id")))
        .expect("a batch")
}

fn expected() -> Value {
    let row = |id: usize| {
        let day = [json!("2024-03-18"), json!(null), json!("1969-12-31")][id % 3].clone();
        let line = [json!(1), json!(-7), json!(null), json!(i64::MAX)][id % 4].clone();
        json!({ "id": id, "site": SITES[id], "day": day, "line": line })
    };
    (0..SITES.len()).map(row).collect()
}

fn check(partition_by: &[(&str, &str)]) {
    let rows = rows();
    let columns: Vec<usize> =
        partition_by.iter().map(|(column, _)| rows.schema().index_of(column).expect("a column")).collect();
    let mut table = Table::partitioned(rows.schema(), vec![0], vec![columns]).expect("a table");
    table.apply(&Delta::insertions(rows.clone())).expect("applied");
    let partition = |key| table.partition(0, key).expect("a partition");
    let partitions: Vec<_> = table.partitions(0).iter().map(partition).collect();

    let home = TempDir::new().expect("a directory");
    let mut store = TableStore::open(home.path(), Path::new(PATH)).expect("open");
    let stamp = Stamp { epoch: Epoch(1), clock: None, watermark: None };
    let meta = TableMeta { pipeline: "readers".to_owned(), job: "folders".to_owned(), stamp };
    let names: Vec<String> = partition_by.iter().map(|(column, _)| (*column).to_owned()).collect();
    let publication = Publication {
        schema: &rows.schema(),
        key: &["id".to_owned()],
        partition_by: &names,
        meta: &meta,
        partitions: &partitions,
        scope: Scope::Whole,
    };
    let published = store.publish_partitions(&publication, 0).expect("published");
    assert!(matches!(&published, Published::Version(version) if version.files.len() == partitions.len()));

    let mut script = crate::script("folders", &home.path().join(PATH));
    let output = script.arg(json!(partition_by).to_string()).output().expect("Python runs");
    assert!(output.status.success(), "{partition_by:?}: {}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let seen = seen.as_object().expect("readers");
    assert_eq!(seen.len(), 8);
    for (reader, seen) in seen {
        assert_eq!(seen["rows"], expected(), "{reader}, {partition_by:?}");
        let types = json!({ "id": "int64", "site": "string", "day": "date32[day]", "line": "int64" });
        assert_eq!(seen["types"], types, "{reader}, {partition_by:?}");
    }
}

#[test]
fn every_reader_sees_the_values_that_make_folders() {
    check(&[("site", "string")]);
    check(&[("day", "date32")]);
    check(&[("line", "int64"), ("site", "string"), ("day", "date32")]);
}
