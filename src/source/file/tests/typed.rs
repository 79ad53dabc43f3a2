//! Parquet files: rows with their types, and files that are not what they should be.

use arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::*;

fn parquet(columns: Vec<(&str, ArrayRef)>, rows_in_group: usize) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows_in_group)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("written");
    writer.into_inner().expect("finished")
}

fn numbered(rows: i64, rows_in_group: usize) -> Vec<u8> {
    let ids: Vec<i64> = (1..=rows).collect();
    let texts: Vec<String> = ids.iter().map(|id| format!("t{id}")).collect();
    parquet(
        vec![
            ("note", Arc::new(StringArray::from(texts.clone())) as ArrayRef),
            ("text", Arc::new(StringArray::from(texts))),
            ("id", Arc::new(Int64Array::from(ids))),
        ],
        rows_in_group,
    )
}

/// The ids of rows, each checked to have the sequence that it should.
fn ids(reads: &[Read]) -> Vec<i64> {
    let mut ids = Vec::new();
    for rows in reads.iter().flat_map(|read| &read.rows) {
        assert_eq!(rows.rows.num_columns(), 2, "only columns of the contract are read");
        let column = rows.rows.column_by_name("id").expect("an id");
        let column = column.as_any().downcast_ref::<Int64Array>().expect("integers");
        for (id, sequence) in column.values().iter().zip(rows.first..) {
            assert_eq!(*id, i64::try_from(sequence).expect("small"));
            ids.push(*id);
        }
    }
    ids
}

#[tokio::test]
async fn every_row_is_a_record_whatever_the_row_groups_and_reads_are() {
    for rows_in_group in [1_000_000, 700, 1_024] {
        let scenery = Scenery::new(&[("a.parquet", &numbered(5_000, rows_in_group))]);
        let mut source = scenery.source("a.parquet");
        let reads = read_to_end(&mut source).await.expect("read");
        assert_eq!(ids(&reads), (1..=5_000).collect::<Vec<_>>());
        for (next, before) in [(4_999, 5_001), (700, 702), (1, 3), (1_024, 1_025)] {
            source.seek(next).await.expect("there are so many");
            let read = source.read(ReadLimit { before: Some(before), ..ALL }).await.expect("read");
            let expected: Vec<i64> = (next..before).map(|id| i64::try_from(id).expect("small")).collect();
            assert_eq!(ids(&[read]), expected);
        }
        let mut source = scenery.source("a.parquet");
        let mut small = Vec::new();
        while source.position() <= Some(5_000) {
            let read = source.read(ReadLimit { messages: 333, ..ALL }).await.expect("read");
            assert!(read.rows.iter().map(|rows| rows.rows.num_rows()).sum::<usize>() <= 333);
            small.push(read);
        }
        assert_eq!(ids(&small).len(), 5_000);
    }
    let scenery = Scenery::new(&[("a.parquet", &numbered(0, 10)), ("b.parquet", &numbered(3, 10))]);
    assert_eq!(ids(&read_to_end(&mut scenery.source("*.parquet")).await.expect("read")), [1, 2, 3]);
}

#[tokio::test]
async fn columns_that_are_not_the_contracts_are_an_error_of_the_file() {
    let at = |zone: Option<&str>| -> ArrayRef {
        let times = TimestampNanosecondArray::from(vec![1]);
        Arc::new(match zone {
            Some(zone) => times.with_timezone(zone),
            None => times,
        })
    };
    let id = || -> ArrayRef { Arc::new(Int32Array::from(vec![1])) };
    let number = || -> ArrayRef { Arc::new(Float64Array::from(vec![0.1])) };
    let decimal =
        || -> ArrayRef { Arc::new(Decimal128Array::from(vec![1]).with_precision_and_scale(30, 9).expect("a type")) };
    for (columns, expected) in [
        (vec![("id", id()), ("at", at(Some("Europe/Berlin"))), ("amount", decimal())], ""),
        (
            vec![("text", id())],
            "there is no `id`, which is required; `text`: a column of type `Int32` can't be read as a string",
        ),
        (
            vec![("id", id()), ("at", at(None))],
            "`at` is a local time: its type names no time zone; write instants in UTC",
        ),
        (
            vec![("id", id()), ("amount", number())],
            "`amount`: a column of type `Float64` can't be read as a decimal: send decimals, integers or texts, which are exact",
        ),
    ] {
        let scenery = Scenery::new(&[("a.parquet", &parquet(columns, 10))]);
        if expected.is_empty() {
            read_to_end(&mut scenery.source("a.parquet")).await.expect("read");
            continue;
        }
        let error = scenery.refusal("a.parquet").await;
        assert_eq!(error.kind(), ErrorKind::Definition);
        assert_eq!(error.chain(), format!("source file `a.parquet` does not fit the contract `c.json`: {expected}"));
    }
    let mut scenery = Scenery::new(&[("a.parquet", &numbered(1, 10))]);
    scenery.contract = contract(
        r#"{"type": "object", "additionalProperties": false, "properties": {"id": {"type": "integer"}, "note": {"type": "string"}}}"#,
    );
    let error = scenery.refusal("a.parquet").await;
    assert!(error.chain().ends_with("there is `text`, which the contract does not have"), "{}", error.chain());
}

#[tokio::test]
async fn damaged_file_gives_no_row_at_all() {
    let whole = numbered(3_000, 1_000);
    let check = |content: Vec<u8>, what: String| async move {
        let error = Scenery::new(&[("a.parquet", &content)]).refusal("a.parquet").await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {}", error.chain());
        assert!(error.chain().starts_with("source file `a.parquet` is damaged: "), "{what}: {}", error.chain());
    };
    for cut in [0, 3, 100, whole.len() / 2, whole.len() - 5, whole.len() - 1] {
        check(whole[..cut].to_vec(), format!("cut at {cut}")).await;
    }
    check(b"{\"id\":1}\n{\"id\":2}\n".to_vec(), "lines of JSON".to_owned()).await;
    let mut zeroed = whole.clone();
    let middle = whole.len() / 2;
    zeroed[middle..middle + 600].fill(0);
    check(zeroed, "zeros in the middle".to_owned()).await;
}
