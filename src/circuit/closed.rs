//! The keys of a source that are closed: a row that satisfies `once` closes its key, at once or when the source's watermark has
//! passed that row's event time by `after`. From then on whatever comes with the key is late, so no row of it ever comes or
//! goes again. Judged row by row in stream order; a key never opens again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::error::Result;
use hashbrown::HashSet;

use crate::types::Micros;

use super::intake::{Mark, key_columns, mark};

/// Names the key of a row.
pub(crate) type RowKey = Mark;

/// See the module.
#[derive(Debug)]
pub struct ClosedKeys {
    columns: Vec<usize>,
    converter: RowConverter,
    /// Keys of which a row has come that closes them, and when they will be closed.
    closing: BinaryHeap<Reverse<(Micros, Mark)>>,
    closed: HashSet<Mark, foldhash::fast::FixedState>,
}

impl ClosedKeys {
    /// No key, of rows of `schema` with these key columns.
    pub fn new(schema: &SchemaRef, columns: Vec<usize>) -> Result<Self> {
        let kinds = columns.iter().map(|&column| SortField::new(schema.field(column).data_type().clone()));
        let converter = RowConverter::new(kinds.collect())?;
        Ok(Self { columns, converter, closing: BinaryHeap::new(), closed: HashSet::default() })
    }

    /// How many keys are closed.
    pub fn len(&self) -> usize {
        self.closed.len()
    }

    /// Whether no key is closed.
    pub fn is_empty(&self) -> bool {
        self.closed.is_empty()
    }

    /// The keys of a source's rows.
    pub(crate) fn keys(&self, rows: &RecordBatch) -> Result<Vec<RowKey>> {
        let keys = self.converter.convert_columns(&key_columns(rows, &self.columns))?;
        Ok(keys.iter().map(|key| mark(key.data())).collect())
    }

    pub(crate) fn contains(&self, key: &RowKey) -> bool {
        self.closed.contains(key)
    }

    /// The key closes once the watermark is `at`; at once without one.
    pub(crate) fn close(&mut self, key: RowKey, at: Option<Micros>) {
        match at {
            None => drop(self.closed.insert(key)),
            Some(at) => self.closing.push(Reverse((at, key))),
        }
    }

    /// The watermark is here now.
    pub(crate) fn advance(&mut self, watermark: Option<Micros>) {
        while let Some(&Reverse((at, key))) = self.closing.peek() {
            if watermark.is_none_or(|watermark| watermark < at) {
                return;
            }
            self.closing.pop();
            self.closed.insert(key);
        }
    }

    /// Which rows have a closed key, given their key columns in the order of the source's. One with a null has none.
    pub(super) fn among(&self, columns: &[ArrayRef]) -> Result<BooleanArray> {
        let columns: Vec<ArrayRef> = columns.iter().map(crate::state::normalise_zero).collect();
        let keys = self.converter.convert_columns(&columns)?;
        let whole = |row: usize| columns.iter().all(|column| !column.is_null(row));
        Ok(keys
            .iter()
            .enumerate()
            .map(|(row, key)| Some(whole(row) && self.closed.contains(&mark(key.data()))))
            .collect())
    }
}
