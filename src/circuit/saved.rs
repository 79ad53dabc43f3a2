//! What operators keep, as rows of a snapshot.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, LargeBinaryBuilder, UInt32Array};
use arrow::datatypes::{Int64Type, UInt32Type};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;

use crate::state::damaged;

/// Columns of one length, as rows.
pub(super) fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<RecordBatch> {
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// Encoded rows as a column.
pub(super) fn bytes<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> ArrayRef {
    let mut column = LargeBinaryBuilder::new();
    values.into_iter().for_each(|value| column.append_value(value));
    Arc::new(column.finish())
}

/// Weights, counts, times as a column.
pub(super) fn numbers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// Groups as a column.
pub(super) fn groups(values: impl IntoIterator<Item = u32>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(values))
}

/// The column at `place`, as encoded rows.
pub(super) fn bytes_of(rows: &RecordBatch, place: usize) -> Result<Vec<Box<[u8]>>> {
    let column = rows.columns().get(place).and_then(|column| column.as_binary_opt::<i64>());
    let column = column.filter(|column| column.null_count() == 0).ok_or_else(|| damaged("a column is not bytes"))?;
    Ok((0..column.len()).map(|row| column.value(row).into()).collect())
}

/// The column at `place`, as numbers.
pub(super) fn numbers_of(rows: &RecordBatch, place: usize) -> Result<Vec<i64>> {
    let column = rows.columns().get(place).and_then(|column| column.as_primitive_opt::<Int64Type>());
    Ok(column.ok_or_else(|| damaged("a column is not numbers"))?.values().to_vec())
}

/// The column at `place`, as groups, each below `end`.
pub(super) fn groups_of(rows: &RecordBatch, place: usize, end: usize) -> Result<Vec<u32>> {
    let column = rows.columns().get(place).and_then(|column| column.as_primitive_opt::<UInt32Type>());
    let groups = column.ok_or_else(|| damaged("a column is not groups"))?.values().to_vec();
    if groups.iter().all(|&group| (group as usize) < end) { Ok(groups) } else { Err(damaged("a group is not there")) }
}

/// A saved column is as long as the groups are many.
pub(super) fn of_length<T>(values: Vec<T>, groups: usize) -> Result<Vec<T>> {
    if values.len() == groups { Ok(values) } else { Err(damaged("a column is not as long as the groups are many")) }
}
