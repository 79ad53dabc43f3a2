//! ORDER BY with LIMIT and OFFSET: a slice of all rows in order.
//!
//! All rows are kept in order, as comparable bytes: the ORDER BY values first, then the row. With `first(n)` for the first n of
//! them, Δslice = Δfirst(offset + limit) − Δfirst(offset). A step costs what the slice and the offset hold, and the logarithm of
//! all rows for each row of the delta.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::error::{DataFusionError, Result};

use crate::state::{Delta, StateReader, StateWriter, with_rows};

use super::{Held, Keeps, Operator, StepContext, saved};

/// See the module.
pub(super) struct Top {
    /// The columns in the order in which rows are compared, each once.
    order: Vec<usize>,
    converter: RowConverter,
    rows: BTreeMap<Arc<[u8]>, i64>,
    bytes: usize,
    offset: usize,
    limit: Option<usize>,
    /// The leading columns of the input that it shows.
    schema: SchemaRef,
    text: String,
}

/// Rows with their weights, in order.
type Ordered = Vec<(Arc<[u8]>, i64)>;

impl Top {
    /// The rows from `offset` on, at most `limit`, of an input with this schema, ordered by these columns and then by the
    /// others; it shows as many of the input's columns as `schema` has.
    pub(super) fn new(
        input: &SchemaRef,
        sort: &[(usize, SortOptions)],
        offset: usize,
        limit: Option<usize>,
        schema: SchemaRef,
        text: String,
    ) -> Result<Self> {
        let mut order: Vec<(usize, SortOptions)> = Vec::new();
        let others = (0..input.fields().len()).map(|column| (column, SortOptions::default()));
        for (column, options) in sort.iter().copied().chain(others) {
            if order.iter().all(|&(known, _)| known != column) {
                order.push((column, options));
            }
        }
        let field = |&(column, options): &(usize, SortOptions)| {
            SortField::new_with_options(input.field(column).data_type().clone(), options)
        };
        let converter = RowConverter::new(order.iter().map(field).collect())?;
        let order = order.into_iter().map(|(column, _)| column).collect();
        Ok(Self { order, converter, rows: BTreeMap::new(), bytes: 0, offset, limit, schema, text })
    }

    fn apply(&mut self, delta: &Delta) -> Result<()> {
        let columns: Vec<ArrayRef> =
            self.order.iter().map(|&column| Arc::clone(delta.batch().column(column))).collect();
        let encoded = self.converter.convert_columns(&columns)?;
        let mut negative = 0_usize;
        for (row, &weight) in encoded.iter().zip(delta.weights()) {
            let key = row.data();
            match self.rows.get_mut(key) {
                Some(held) => {
                    let before = *held;
                    *held += weight;
                    match (before < 0, *held < 0) {
                        (false, true) => negative += 1,
                        (true, false) => negative -= 1,
                        _ => {}
                    }
                    if *held == 0 {
                        self.rows.remove(key);
                        self.bytes -= key.len();
                    }
                }
                None => {
                    negative += usize::from(weight < 0);
                    self.bytes += key.len();
                    self.rows.insert(key.into(), weight);
                }
            }
        }
        if negative > 0 {
            return Err(DataFusionError::Internal("a row goes that an ordered table does not hold".to_owned()));
        }
        Ok(())
    }

    /// The first rows, `count` of them if there are as many.
    fn first(&self, count: usize) -> Ordered {
        let mut left = i64::try_from(count).unwrap_or(i64::MAX);
        let mut rows = Vec::new();
        for (row, &weight) in &self.rows {
            if left == 0 {
                break;
            }
            let taken = weight.min(left);
            rows.push((Arc::clone(row), taken));
            left -= taken;
        }
        rows
    }

    fn decode(&self, rows: Ordered) -> Result<Delta> {
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(rows.iter().map(|(row, _)| parser.parse(row)))?;
        let shown = (0..self.schema.fields().len())
            .map(|column| {
                let place = self.order.iter().position(|&known| known == column);
                place
                    .and_then(|place| columns.get(place))
                    .cloned()
                    .ok_or_else(|| DataFusionError::Internal("an ordered table lacks a column".to_owned()))
            })
            .collect::<Result<Vec<_>>>()?;
        let weights: Vec<i64> = rows.into_iter().map(|(_, weight)| weight).collect();
        Ok(Delta::new(with_rows(&self.schema, shown, weights.len())?, weights))
    }
}

/// What becomes of rows in order: those of `after` less those of `before`.
fn difference(before: &Ordered, after: Ordered, weight: i64) -> Ordered {
    let mut changes: BTreeMap<Arc<[u8]>, i64> = BTreeMap::new();
    for (row, count) in after {
        *changes.entry(row).or_default() += count * weight;
    }
    for (row, count) in before {
        *changes.entry(Arc::clone(row)).or_default() -= count * weight;
    }
    changes.into_iter().filter(|&(_, change)| change != 0).collect()
}

impl Operator for Top {
    fn step(&mut self, inputs: &[&Delta], _: &mut StepContext) -> Result<Delta> {
        let Some(&input) = inputs.first() else { return Ok(Delta::empty(&self.schema)) };
        let end = self.limit.map(|limit| self.offset.saturating_add(limit));
        let before_offset = self.first(self.offset);
        let before_end = end.map(|end| self.first(end));
        self.apply(input)?;
        let skipped = difference(&before_offset, self.first(self.offset), -1);
        let mut parts = vec![self.decode(skipped)?];
        match (end, before_end) {
            (Some(end), Some(before)) => parts.push(self.decode(difference(&before, self.first(end), 1))?),
            _ => {
                let columns: Vec<usize> = (0..self.schema.fields().len()).collect();
                parts.push(input.project(&columns)?.with_schema(&self.schema)?);
            }
        }
        Delta::concat(&self.schema, &parts)?.consolidate()
    }

    fn save(&self, state: &mut StateWriter) -> Result<()> {
        state.rows(saved::batch([
            ("row", saved::bytes(self.rows.keys().map(|row| &**row))),
            ("weight", saved::numbers(self.rows.values().copied())),
        ])?);
        Ok(())
    }

    fn load(&mut self, state: &mut StateReader) -> Result<()> {
        let held = state.rows()?;
        let rows = saved::bytes_of(&held, 0)?.into_iter().map(Arc::from);
        self.rows = rows.zip(saved::numbers_of(&held, 1)?).collect();
        self.bytes = self.rows.keys().map(|row| row.len()).sum();
        Ok(())
    }

    fn keeps(&self) -> Keeps {
        Keeps::Rows
    }

    fn held(&self) -> Held {
        Held { rows: self.rows.len(), bytes: self.bytes + self.rows.len() * 48 }
    }

    fn describe(&self) -> String {
        self.text.clone()
    }
}
