//! Window functions: the touched partitions are computed anew.
//!
//! The rows are arranged by partition. For the partitions that a delta touches, Δ = −computed(before) + computed(after), where
//! DataFusion's own window expressions compute over the partition's rows in the order of ORDER BY and then of all columns. A
//! partition on which a function fails is an error row in place of its rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{SortOptions, concat};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::window::WindowExpr;
use hashbrown::HashSet;

use crate::state::{Delta, StateReader, StateWriter, normalise_zero, take_rows, with_rows};

use super::arranged::{Arranged, Use};
use super::expression::row_text;
use super::{ErrorRow, Keeps, Operator, StepContext};

/// See the module.
pub(super) struct Window {
    /// The input, by partition.
    pub(super) rows: Use,
    /// The columns of the partition.
    pub(super) partition: Vec<usize>,
    /// The functions, with the author's text.
    pub(super) calls: Vec<(Arc<dyn WindowExpr>, String)>,
    /// To bytes by which rows are ordered: partition, ORDER BY, then all columns.
    pub(super) order: RowOrder,
    /// How many of the arrangement's columns the output shows, before the results.
    pub(super) width: usize,
    /// The PARTITION BY, as written.
    pub(super) partitions: String,
    pub(super) schema: SchemaRef,
    pub(super) text: String,
}

/// The order of the rows within their partitions.
pub(super) struct RowOrder {
    partition: Vec<usize>,
    partitions: RowConverter,
    order: Vec<usize>,
    rows: RowConverter,
}

impl RowOrder {
    /// Rows of this schema by partition columns, then by these columns, then by all.
    pub(super) fn new(schema: &SchemaRef, partition: Vec<usize>, sort: &[(usize, SortOptions)]) -> Result<Self> {
        let kind = |column: usize| schema.field(column).data_type().clone();
        let all = (0..schema.fields().len()).map(|column| (column, SortOptions::default()));
        let order: Vec<(usize, SortOptions)> = sort.iter().copied().chain(all).collect();
        let fields = order.iter().map(|&(column, options)| SortField::new_with_options(kind(column), options));
        Ok(Self {
            partitions: RowConverter::new(partition.iter().map(|&column| SortField::new(kind(column))).collect())?,
            rows: RowConverter::new(fields.collect())?,
            order: order.into_iter().map(|(column, _)| column).collect(),
            partition,
        })
    }

    /// What the rows of a partition share.
    fn partition_text(&self, rows: &RecordBatch) -> Result<String> {
        match self.partition.is_empty() {
            true => Ok("all rows".to_owned()),
            false => Ok(row_text(&rows.project(&self.partition)?.slice(0, 1))),
        }
    }

    /// The rows in order, and where each partition ends.
    fn sorted(&self, rows: &RecordBatch) -> Result<(RecordBatch, Vec<usize>)> {
        if self.order.is_empty() {
            // Rows without columns are all equal.
            return Ok((rows.clone(), vec![rows.num_rows()]));
        }
        let columns = |places: &[usize]| -> Vec<ArrayRef> {
            places.iter().map(|&column| Arc::clone(rows.column(column))).collect()
        };
        let positions = 0..u32::try_from(rows.num_rows()).unwrap_or(u32::MAX);
        let mut positions: Vec<u32> = positions.collect();
        let bytes = self.rows.convert_columns(&columns(&self.order))?;
        let by_row = |one: u32, other: u32| bytes.row(one as usize).cmp(&bytes.row(other as usize));
        if self.partition.is_empty() {
            positions.sort_unstable_by(|&one, &other| by_row(one, other));
            let sorted = take_rows(rows, &UInt32Array::from(positions))?;
            return Ok((sorted, vec![rows.num_rows()]));
        }
        let groups = self.partitions.convert_columns(&columns(&self.partition))?;
        let by_group = |one: u32, other: u32| groups.row(one as usize).cmp(&groups.row(other as usize));
        positions.sort_unstable_by(|&one, &other| by_group(one, other).then_with(|| by_row(one, other)));
        let mut ends: Vec<usize> = Vec::new();
        let mut end = 0;
        for group in positions.chunk_by(|&one, &other| by_group(one, other).is_eq()) {
            end += group.len();
            ends.push(end);
        }
        Ok((take_rows(rows, &UInt32Array::from(positions))?, ends))
    }
}

impl Window {
    /// The rows of these partitions before the step.
    fn rows_before(before: Arranged<'_>, schema: &SchemaRef, keys: &[ArrayRef], partitions: usize) -> Result<Delta> {
        let found: Vec<_> = before.probe(keys, partitions)?.into_iter().map(|found| found.stored).collect();
        let columns = before.gather(schema.fields().len(), &found)?;
        Ok(Delta::new(with_rows(schema, columns, found.len())?, before.weights(found.into_iter())))
    }

    /// What the functions make of whole partitions.
    fn computed(&self, rows: &RecordBatch, weight: i64, context: &mut StepContext) -> Result<Option<Delta>> {
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        let (sorted, ends) = self.order.sorted(rows)?;
        let mut results: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.calls.len()];
        let mut shown: Vec<RecordBatch> = Vec::new();
        let mut start = 0;
        for end in ends {
            let partition = sorted.slice(start, end - start);
            start = end;
            match self.evaluate(&partition) {
                Ok(values) => {
                    results.iter_mut().zip(values).for_each(|(held, value)| held.push(value));
                    shown.push(partition);
                }
                Err((expression, reason)) => {
                    let row = self.order.partition_text(&partition)?;
                    context.errors.push(ErrorRow { job: usize::MAX, expression, reason, row, weight });
                }
            }
        }
        let Some(first) = shown.first() else { return Ok(None) };
        let rows = arrow::compute::concat_batches(first.schema_ref(), &shown)?;
        let mut columns: Vec<ArrayRef> = rows.columns().iter().take(self.width).cloned().collect();
        for values in results {
            let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
            columns.push(concat(&values)?);
        }
        let weights = vec![weight; rows.num_rows()];
        Ok(Some(Delta::new(with_rows(&self.schema, columns, weights.len())?, weights)))
    }

    /// The results for one partition, or the function that fails and why.
    fn evaluate(&self, partition: &RecordBatch) -> Result<Vec<ArrayRef>, (String, String)> {
        let results = self.schema.fields().iter().skip(self.width);
        self.calls
            .iter()
            .zip(results)
            .map(|((call, text), field)| {
                let value =
                    call.evaluate(partition).and_then(|value| Ok(arrow::compute::cast(&value, field.data_type())?));
                value.map_err(|error| (text.clone(), error.find_root().strip_backtrace()))
            })
            .collect()
    }
}

impl Operator for Window {
    fn step(&mut self, inputs: &[&Delta], context: &mut StepContext) -> Result<Delta> {
        let Some(&input) = inputs.first().filter(|input| !input.is_empty()) else {
            return Ok(Delta::empty(&self.schema));
        };
        let schema = input.batch().schema();
        let keys: Vec<ArrayRef> =
            self.partition.iter().map(|&column| normalise_zero(input.batch().column(column))).collect();
        let touched = distinct(&keys, input.len())?;
        let keys = keys.iter().map(|key| Ok(arrow::compute::take(key, &touched, None)?)).collect::<Result<Vec<_>>>()?;
        let before = Self::rows_before(context.arrangements.view(self.rows), &schema, &keys, touched.len())?;
        let after = Delta::concat(&schema, &[before.clone(), input.clone()])?.consolidate()?;
        let parts = [self.computed(&each(&before)?, -1, context)?, self.computed(&each(&after)?, 1, context)?];
        let parts: Vec<Delta> = parts.into_iter().flatten().collect();
        Delta::concat(&self.schema, &parts)?.consolidate()
    }

    fn save(&self, _: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    fn load(&mut self, _: &mut StateReader) -> Result<()> {
        Ok(())
    }

    fn keeps(&self) -> Keeps {
        Keeps::RowsByGroup(self.partitions.clone())
    }

    fn describe(&self) -> String {
        self.text.clone()
    }
}

/// Each row as often as its weight says.
fn each(rows: &Delta) -> Result<RecordBatch> {
    if rows.weights().iter().all(|&weight| weight == 1) {
        return Ok(rows.batch().clone());
    }
    if rows.has_removals() {
        return Err(DataFusionError::Internal("a row goes that its partition does not hold".to_owned()));
    }
    let times = |&weight: &i64| usize::try_from(weight).unwrap_or(0);
    let positions = (0_u32..).zip(rows.weights()).flat_map(|(row, weight)| std::iter::repeat_n(row, times(weight)));
    take_rows(rows.batch(), &positions.collect())
}

/// The first row of each different key.
fn distinct(keys: &[ArrayRef], rows: usize) -> Result<UInt32Array> {
    if keys.is_empty() {
        return Ok((0..u32::from(rows > 0)).map(Some).collect());
    }
    let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let bytes = converter.convert_columns(keys)?;
    let mut seen: HashSet<&[u8], foldhash::fast::FixedState> = HashSet::default();
    Ok((0_u32..).zip(bytes.iter()).filter(|(_, key)| seen.insert(key.data())).map(|(row, _)| Some(row)).collect())
}
