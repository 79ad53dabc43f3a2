//! The laws of `unique` and `upsert`, written a second time and as plainly as can be: over all rows at once, with whole keys and
//! whole contents in place of digests.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::common::cast::as_boolean_array;
use datafusion::error::{DataFusionError, Result};

use crate::definition::contract::Contract;
use crate::definition::pipeline::{Identity, Snapshot};
use crate::state::normalise_zero;

/// What was seen of each key of a `unique` source: the content of its first row.
pub(super) struct FirstSeen {
    key: Vec<usize>,
    content: Vec<usize>,
    keys: RowConverter,
    contents: RowConverter,
    seen: HashMap<OwnedRow, OwnedRow>,
}

/// What became of the rows of one epoch, by their positions among them.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) first: Vec<u32>,
    pub(super) duplicates: usize,
    pub(super) conflicts: Vec<usize>,
    /// Of a source with `retain` only.
    pub(super) late: Vec<usize>,
}

impl FirstSeen {
    /// Of a source; none where it declares no `unique` key.
    pub(super) fn new(contract: &Contract, identity: &Identity) -> Result<Option<Self>> {
        let Identity::Append { unique } = identity else { return Ok(None) };
        if unique.is_empty() {
            return Ok(None);
        }
        let schema = contract.table_schema();
        let told_later = contract.columns.iter().position(|column| column.name == "recorded_at");
        let content: Vec<usize> = (0..contract.columns.len()).filter(|&column| Some(column) != told_later).collect();
        Ok(Some(Self {
            keys: converter(&schema, unique)?,
            contents: converter(&schema, &content)?,
            key: unique.clone(),
            content,
            seen: HashMap::new(),
        }))
    }

    /// Sorts the next rows in stream order: the first of each key, repetitions of it, and other rows with its key.
    pub(super) fn sort(&mut self, rows: &RecordBatch) -> Result<Sorted> {
        let keys = self.keys.convert_columns(&normalised(rows, &self.key))?;
        let contents = self.contents.convert_columns(rows.project(&self.content)?.columns())?;
        let mut sorted = Sorted::default();
        for (position, row) in (0_u32..).zip(0..rows.num_rows()) {
            let content = contents.row(row);
            match self.seen.get(&keys.row(row).owned()) {
                None => {
                    self.seen.insert(keys.row(row).owned(), content.owned());
                    sorted.first.push(position);
                }
                Some(first) if first.row() == content => sorted.duplicates += 1,
                Some(_) => sorted.conflicts.push(row),
            }
        }
        Ok(sorted)
    }
}

/// The rows of a source's table, by all that were accepted so far in stream order.
pub(super) fn table_rows(schema: &Schema, identity: &Identity, accepted: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let Identity::Upsert { key, order_by, deleted, snapshot } = identity else { return Ok(accepted.to_vec()) };
    let schema = std::sync::Arc::new(schema.clone());
    let all = concat_batches(&schema, accepted)?;
    let newest = newest_versions(&all, snapshot.as_ref())?;
    let keys = converter(&schema, key)?.convert_columns(&normalised(&all, key))?;
    let orders = order_by.map(|column| converter(&schema, &[column])?.convert_columns(&[column_of(&all, column)?]));
    let orders = orders.transpose()?;
    let mut latest: BTreeMap<OwnedRow, usize> = BTreeMap::new();
    for row in (0..all.num_rows()).filter(|&row| newest.get(row).copied().unwrap_or(true)) {
        let held = latest.entry(keys.row(row).owned()).or_insert(row);
        if orders.as_ref().is_none_or(|orders| orders.row(row) >= orders.row(*held)) {
            *held = row;
        }
    }
    let gone = deleted.map(|column| column_of(&all, column)).transpose()?;
    let gone = gone.as_ref().map(|gone| as_boolean_array(gone)).transpose()?;
    let stands = |row: &usize| !gone.is_some_and(|gone| gone.is_valid(*row) && gone.value(*row));
    let mut rows: Vec<usize> = latest.into_values().filter(stands).collect();
    rows.sort_unstable();
    let rows = rows.into_iter().map(u32::try_from).collect::<Result<Vec<u32>, _>>().map_err(|_| too_many())?;
    Ok(vec![take_record_batch(&all, &UInt32Array::from(rows))?])
}

/// Of each row whether its version is the highest of those that agree with it in `by`; nothing where no snapshot is declared.
fn newest_versions(all: &RecordBatch, snapshot: Option<&Snapshot>) -> Result<Vec<bool>> {
    let Some(Snapshot { by, version }) = snapshot else { return Ok(Vec::new()) };
    let schema = all.schema();
    let groups = converter(&schema, by)?.convert_columns(&normalised(all, by))?;
    let versions = converter(&schema, &[*version])?.convert_columns(&[column_of(all, *version)?])?;
    let mut highest: HashMap<OwnedRow, OwnedRow> = HashMap::new();
    for row in 0..all.num_rows() {
        let version = versions.row(row).owned();
        let known = highest.entry(groups.row(row).owned()).or_insert_with(|| version.clone());
        if *known < version {
            *known = version;
        }
    }
    Ok((0..all.num_rows()).map(|row| is_highest(&highest, &groups, &versions, row)).collect())
}

fn is_highest(highest: &HashMap<OwnedRow, OwnedRow>, groups: &Rows, versions: &Rows, row: usize) -> bool {
    highest.get(&groups.row(row).owned()).is_some_and(|highest| highest.row() == versions.row(row))
}

fn converter(schema: &Schema, columns: &[usize]) -> Result<RowConverter> {
    let fields = columns.iter().map(|&column| SortField::new(schema.field(column).data_type().clone()));
    Ok(RowConverter::new(fields.collect())?)
}

/// Columns of a key: negative zero is zero in them.
fn normalised(rows: &RecordBatch, columns: &[usize]) -> Vec<ArrayRef> {
    columns.iter().filter_map(|&column| rows.columns().get(column)).map(normalise_zero).collect()
}

fn column_of(rows: &RecordBatch, column: usize) -> Result<ArrayRef> {
    let found = rows.columns().get(column).cloned();
    found.ok_or_else(|| DataFusionError::Internal(format!("a source has no column {column}")))
}

fn too_many() -> DataFusionError {
    DataFusionError::Internal("more than 2^32 rows of one source".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Int64Array, StringViewArray, TimestampMicrosecondArray};
    use proptest::prelude::*;

    use super::*;
    use crate::circuit::Intake;
    use crate::diagnostic::SourceText;
    use crate::runtime::verify::compare;
    use crate::state::Table;

    const CONTRACT: &str = r#"{"$id": "c", "type": "object", "required": ["k", "site", "version", "n"], "properties": {
        "k": {"type": "string"}, "site": {"type": "string"}, "version": {"type": "integer"}, "n": {"type": "integer"},
        "gone": {"type": "boolean"}}}"#;

    /// Key, site, version, number, gone.
    type Row = (u8, u8, i64, i64, Option<bool>);

    fn batch(contract: &Contract, rows: &[Row], first: i64) -> RecordBatch {
        let texts = |letter: char, value: &dyn Fn(&Row) -> u8| -> ArrayRef {
            Arc::new(rows.iter().map(|row| Some(format!("{letter}{}", value(row)))).collect::<StringViewArray>())
        };
        let integers = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
        let columns = vec![
            texts('k', &|row| row.0),
            texts('s', &|row| row.1),
            integers(rows.iter().map(|row| row.2).collect()),
            integers(rows.iter().map(|row| row.3).collect()),
            Arc::new(rows.iter().map(|row| row.4).collect::<BooleanArray>()) as ArrayRef,
            Arc::new(TimestampMicrosecondArray::new_null(rows.len()).with_timezone("UTC")),
            Arc::new(rows.iter().map(|_| Some("f")).collect::<StringViewArray>()),
            integers((first..).take(rows.len()).collect()),
            integers(vec![0; rows.len()]),
        ];
        RecordBatch::try_new(contract.table_schema(), columns).expect("columns of the contract")
    }

    /// Both ways take the same rows, cut into batches somewhere, to the same table.
    fn check(identity: &Identity, rows: &[Row], cut: usize) {
        let contract = Contract::compile(&SourceText::new("c.json", CONTRACT)).expect("a contract");
        let schema = contract.table_schema();
        let mut intake = Intake::new(&contract, identity).expect("an intake");
        let mut table = Table::new(Arc::clone(&schema), Vec::new()).expect("a table");
        let mut first_seen = FirstSeen::new(&contract, identity).expect("first seen");
        let (mut accepted, mut first) = (Vec::new(), 1);
        for rows in rows.chunks(cut.max(1)) {
            let batch = batch(&contract, rows, first);
            first += i64::try_from(rows.len()).expect("few");
            let admitted = intake.admit(&batch).expect("admitted");
            table.apply(&intake.accept(&admitted.rows).expect("accepted")).expect("applied");
            match &mut first_seen {
                Some(first_seen) => {
                    let sorted = first_seen.sort(&batch).expect("sorted");
                    assert_eq!(sorted.duplicates, admitted.duplicates.len());
                    assert_eq!(sorted.conflicts, admitted.conflicts);
                    accepted.push(take_record_batch(&batch, &UInt32Array::from(sorted.first)).expect("rows"));
                }
                None => accepted.push(batch),
            }
        }
        let expected = table_rows(&schema, identity, &accepted).expect("rows");
        let found = table.batches().expect("rows");
        let difference = compare(&expected, &found).expect("comparable");
        assert!(difference.is_none(), "{identity:?} {rows:?}: {difference:?}");
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        prop::collection::vec((0..4_u8, 0..2_u8, 0..4_i64, 0..3_i64, prop::option::of(any::<bool>())), 0..40)
    }

    proptest! {
        #[test]
        fn both_ways_of_taking_rows_in_agree(rows in rows(), cut in 1..9_usize) {
            check(&Identity::Append { unique: Vec::new() }, &rows, cut);
            check(&Identity::Append { unique: vec![0] }, &rows, cut);
            check(&Identity::Append { unique: vec![0, 1] }, &rows, cut);
            for order_by in [None, Some(3)] {
                for deleted in [None, Some(4)] {
                    let snapshots = [None, Some(Snapshot { by: vec![1], version: 2 })];
                    for snapshot in snapshots {
                        check(&Identity::Upsert { key: vec![0, 1], order_by, deleted, snapshot }, &rows, cut);
                    }
                }
            }
        }
    }
}
