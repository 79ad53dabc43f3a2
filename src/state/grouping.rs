//! The rows of an arrangement by the values of further columns: which rows stand in a group, and which groups changed.
//!
//! Groups are large and few where an arrangement's keys are small and many, so a group's rows lie in an ordered set: a row
//! comes, goes or moves at the cost of its logarithm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows};
use datafusion::error::Result;

use super::arrangement::RowId;
use super::delta::{row_converter, with_rows};

/// Names a group: the values of its columns as bytes, which sort as the values do, nulls first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey(Box<[u8]>);

/// An index of rows by the values of some columns.
#[derive(Debug)]
pub(super) struct Grouping {
    columns: Vec<usize>,
    schema: SchemaRef,
    converter: RowConverter,
    groups: BTreeMap<GroupKey, BTreeSet<RowId>>,
    touched: BTreeSet<GroupKey>,
}

impl Grouping {
    /// An index of no rows of `schema` by `columns`.
    pub(super) fn new(schema: &Schema, columns: Vec<usize>) -> Result<Self> {
        let schema = Arc::new(schema.project(&columns)?);
        let converter = row_converter(&schema)?;
        Ok(Self { columns, schema, converter, groups: BTreeMap::new(), touched: BTreeSet::new() })
    }

    /// The groups of rows, in their order.
    pub(super) fn keys(&self, rows: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|&column| Arc::clone(rows.column(column))).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }

    /// Notes that a group changes.
    pub(super) fn touch(&mut self, key: &[u8]) {
        let key = GroupKey(key.into());
        if !self.touched.contains(&key) {
            self.touched.insert(key);
        }
    }

    /// A row comes.
    pub(super) fn insert(&mut self, key: &[u8], row: RowId) {
        self.groups.entry(GroupKey(key.into())).or_default().insert(row);
    }

    /// A row goes; its group too if it was the last.
    pub(super) fn remove(&mut self, key: &[u8], row: RowId) {
        let key = GroupKey(key.into());
        if let Some(rows) = self.groups.get_mut(&key) {
            rows.remove(&row);
            if rows.is_empty() {
                self.groups.remove(&key);
            }
        }
    }

    /// Every group that has rows.
    pub(super) fn all(&self) -> Vec<GroupKey> {
        self.groups.keys().cloned().collect()
    }

    /// The groups that changed since this was asked before; some may have no rows any more.
    pub(super) fn take_touched(&mut self) -> BTreeSet<GroupKey> {
        std::mem::take(&mut self.touched)
    }

    /// The rows of a group, in the order of insertion.
    pub(super) fn rows(&self, key: &GroupKey) -> impl Iterator<Item = RowId> + '_ {
        self.groups.get(key).into_iter().flatten().copied()
    }

    /// The values that a group stands for: one row of the grouping's columns.
    pub(super) fn values(&self, key: &GroupKey) -> Result<RecordBatch> {
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows([parser.parse(&key.0)])?;
        with_rows(&self.schema, columns, 1)
    }
}
