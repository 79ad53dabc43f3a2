//! A change: rows with weights.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::Result;
use hashbrown::HashMap;

use super::hash::{Zeros, hash_rows, unequal_rows};

/// Rows with weights: +1 appears, -1 goes, 0 never stands in a delta that left its operator.
///
/// Invariant: as many weights as rows.
#[derive(Debug, Clone)]
pub struct Delta {
    batch: RecordBatch,
    weights: Arc<Vec<i64>>,
    /// Whether each row is known to stand in it once.
    consolidated: bool,
}

impl Delta {
    /// Rows with their weights; both of one length.
    pub fn new(batch: RecordBatch, weights: Vec<i64>) -> Self {
        debug_assert_eq!(batch.num_rows(), weights.len(), "a weight for each row");
        Self { batch, weights: Arc::new(weights), consolidated: false }
    }

    /// Every row appears once.
    pub fn insertions(batch: RecordBatch) -> Self {
        let weights = vec![1; batch.num_rows()];
        Self::new(batch, weights)
    }

    /// No change.
    pub fn empty(schema: &SchemaRef) -> Self {
        Self::new(RecordBatch::new_empty(Arc::clone(schema)), Vec::new())
    }

    /// The rows.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// The weight of each row.
    pub fn weights(&self) -> &[i64] {
        &self.weights
    }

    /// How many rows, whatever their weights.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// Whether any row goes.
    pub fn has_removals(&self) -> bool {
        self.weights.iter().any(|&weight| weight < 0)
    }

    /// Some columns of the rows, weights kept; not consolidated.
    pub fn project(&self, columns: &[usize]) -> Result<Self> {
        let all = (0..self.batch.num_columns()).all(|column| columns.contains(&column));
        Ok(Self {
            batch: self.batch.project(columns)?,
            weights: Arc::clone(&self.weights),
            consolidated: self.consolidated && all,
        })
    }

    /// The same rows under another schema of the same types.
    pub fn with_schema(&self, schema: &SchemaRef) -> Result<Self> {
        Ok(Self { batch: relabel(&self.batch, schema)?, ..self.clone() })
    }

    /// The same rows with further columns behind their own, weights kept.
    pub fn widened(&self, schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<Self> {
        let columns = self.batch.columns().iter().cloned().chain(columns).collect();
        Ok(Self { batch: with_rows(schema, columns, self.len())?, ..self.clone() })
    }

    /// The rows for which `keep` is true; null is false.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Self> {
        use arrow::array::Array;
        let batch = filter_record_batch(&self.batch, keep)?;
        let weights =
            (0..keep.len()).filter(|&row| keep.is_valid(row) && keep.value(row)).map(|row| self.weights[row]).collect();
        Ok(Self { consolidated: self.consolidated, ..Self::new(batch, weights) })
    }

    /// The rows at these positions.
    pub fn take(&self, rows: &[u32]) -> Result<Self> {
        let batch = take_rows(&self.batch, &UInt32Array::from(rows.to_vec()))?;
        Ok(Self::new(batch, rows.iter().map(|&row| self.weights[row as usize]).collect()))
    }

    /// One after the other; not consolidated. All of `schema`'s types.
    pub fn concat(schema: &SchemaRef, parts: &[Self]) -> Result<Self> {
        let mut filled = parts.iter().filter(|part| !part.is_empty());
        let (Some(first), second) = (filled.next(), filled.next()) else {
            return Ok(Self::empty(schema));
        };
        if second.is_none() {
            return first.with_schema(schema);
        }
        let batches: Vec<RecordBatch> = parts
            .iter()
            .filter(|part| !part.is_empty())
            .map(|part| relabel(&part.batch, schema))
            .collect::<Result<_>>()?;
        let weights = parts.iter().flat_map(|part| part.weights.iter().copied()).collect();
        Ok(Self::new(concat_batches(schema, &batches)?, weights))
    }

    /// Adds up the weights of equal rows and leaves out what adds up to zero. Rows keep the order in which they first
    /// stood. A delta without removals is returned as it is: nothing in it can cancel. Nor is one looked at again that was
    /// consolidated and lost no column since.
    pub fn consolidate(self) -> Result<Self> {
        if self.consolidated || !self.has_removals() {
            return Ok(self);
        }
        let first = self.first_equal()?;
        if first.iter().zip(0..).all(|(&first, row)| first == row) {
            return Ok(Self { consolidated: true, ..self });
        }
        let mut weights = self.weights.to_vec();
        for (row, &first) in first.iter().enumerate().filter(|&(row, &first)| first as usize != row) {
            weights[first as usize] += std::mem::take(&mut weights[row]);
        }
        let kept: Vec<u32> = (0_u32..).zip(&weights).filter(|&(_, &weight)| weight != 0).map(|(row, _)| row).collect();
        weights.retain(|&weight| weight != 0);
        let batch = take_rows(&self.batch, &UInt32Array::from(kept))?;
        Ok(Self { consolidated: true, ..Self::new(batch, weights) })
    }

    /// For each row the first that equals it.
    fn first_equal(&self) -> Result<Vec<u32>> {
        let hashes = hash_rows(self.batch.columns(), self.len())?;
        let mut known: HashMap<u64, u32, foldhash::fast::FixedState> =
            HashMap::with_capacity_and_hasher(self.len(), foldhash::fast::FixedState::default());
        let first: Vec<u32> = (0..).zip(&hashes).map(|(row, &hash)| *known.entry(hash).or_insert(row)).collect();
        let repeated = || (0_u32..).zip(&first).filter(|&(row, &first)| first != row);
        let (rows, firsts): (Vec<u32>, Vec<u32>) = repeated().map(|(row, &first)| (row, first)).unzip();
        if rows.is_empty() {
            return Ok(first);
        }
        let rows = take_rows(&self.batch, &UInt32Array::from(rows))?;
        let firsts = take_rows(&self.batch, &UInt32Array::from(firsts))?;
        match unequal_rows(rows.columns(), firsts.columns(), Zeros::Apart)? {
            None => Ok(first),
            // Rows with one hash that are not equal: 0.0 and -0.0, or a rare accident.
            Some(_) => self.first_of_bytes(),
        }
    }

    /// The same by the bytes of all rows.
    fn first_of_bytes(&self) -> Result<Vec<u32>> {
        let converter = row_converter(self.batch.schema_ref())?;
        let rows = row_bytes(&converter, &self.batch)?;
        let mut known: HashMap<&[u8], u32, foldhash::fast::FixedState> =
            HashMap::with_capacity_and_hasher(rows.num_rows(), foldhash::fast::FixedState::default());
        Ok((0..).zip(rows.iter()).map(|(position, row)| *known.entry(row.data()).or_insert(position)).collect())
    }
}

/// A converter to comparable bytes for all columns of a schema; see [`row_bytes`].
pub(crate) fn row_converter(schema: &Schema) -> Result<RowConverter> {
    let kinds = schema.fields().iter().map(|field| field.data_type().clone());
    let placeholder = schema.fields().is_empty().then_some(DataType::Boolean);
    Ok(RowConverter::new(kinds.chain(placeholder).map(SortField::new).collect())?)
}

/// The bytes of each row, by the [`row_converter`] of its schema. Rows without columns are rows too, all of them equal.
pub(crate) fn row_bytes(converter: &RowConverter, batch: &RecordBatch) -> Result<Rows> {
    if batch.num_columns() == 0 {
        let placeholder: ArrayRef = Arc::new(BooleanArray::from(vec![false; batch.num_rows()]));
        return Ok(converter.convert_columns(&[placeholder])?);
    }
    Ok(converter.convert_columns(batch.columns())?)
}

/// The rows at these positions, also where there are no columns.
pub(crate) fn take_rows(batch: &RecordBatch, rows: &UInt32Array) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(|column| Ok(take(column, rows, None)?)).collect::<Result<_>>()?;
    with_rows(batch.schema_ref(), columns, rows.len())
}

/// The same columns under another schema of the same types; keeps the row count where there are no columns.
pub(crate) fn relabel(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    with_rows(schema, batch.columns().to_vec(), batch.num_rows())
}

/// A record batch that knows its row count even without columns.
pub(crate) fn with_rows(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::Field;

    fn check(input: &[(i64, i64)], expected: &[(i64, i64)]) {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let values: Int64Array = input.iter().map(|&(value, _)| Some(value)).collect();
        let batch = RecordBatch::try_new(schema, vec![Arc::new(values)]).expect("one column");
        let delta = Delta::new(batch, input.iter().map(|&(_, weight)| weight).collect());
        let result = delta.consolidate().expect("consolidates");
        let values = result.batch().column(0).as_any().downcast_ref::<Int64Array>().expect("still integers");
        let actual: Vec<(i64, i64)> = values.values().iter().copied().zip(result.weights().iter().copied()).collect();
        assert_eq!(actual, expected);
    }

    #[test]
    fn rows_without_columns_add_up() {
        let schema = Arc::new(Schema::empty());
        let batch = |rows| with_rows(&schema, Vec::new(), rows).expect("no columns");
        let consolidate = |weights: Vec<i64>| {
            let result = Delta::new(batch(weights.len()), weights).consolidate().expect("consolidates");
            (result.batch().num_rows(), result.weights().to_vec())
        };
        assert_eq!(consolidate(vec![1, -1, 2, -1]), (1, vec![1]));
        assert_eq!(consolidate(vec![1, -1]), (0, vec![]));
        assert_eq!(consolidate(vec![-3]), (1, vec![-3]));
        let taken = Delta::new(batch(3), vec![1, 2, 3]).take(&[2, 0]).expect("rows");
        assert_eq!((taken.batch().num_rows(), taken.weights()), (2, [3, 1].as_slice()));
    }

    #[test]
    fn opposite_weights_cancel_and_order_is_kept() {
        check(&[(1, 1), (2, -1), (1, -1)], &[(2, -1)]);
        check(&[(1, 1), (2, -1), (2, 1), (1, 1)], &[(1, 2)]);
        check(&[(3, 1), (1, -1), (2, 1)], &[(3, 1), (1, -1), (2, 1)]);
        check(&[], &[]);
    }
}
