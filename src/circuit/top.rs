//! ORDER BY with LIMIT and OFFSET: a slice of all rows in order.
//!
//! All rows are kept in order, as comparable bytes: the ORDER BY values first, then the row. With `first(n)` for the first n of
//! them, Δslice = Δfirst(offset + limit) − Δfirst(offset). A step costs what the slice and the offset hold, and the logarithm of
//! all rows for each row of the delta. Where no row goes, no row behind the slice ever moves up: it is not kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::error::{DataFusionError, Result};

use crate::state::{Delta, with_rows};

use super::{Held, Keeps, Kept, Operator, Outlook, StepContext};

/// See the module.
pub(super) struct Top {
    /// The columns in the order in which rows are compared, each once.
    order: Vec<usize>,
    converter: RowConverter,
    rows: BTreeMap<Arc<[u8]>, i64>,
    bytes: usize,
    offset: usize,
    limit: Option<usize>,
    /// No row goes.
    grows_only: bool,
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
        let rows = BTreeMap::new();
        Ok(Self { order, converter, rows, bytes: 0, offset, limit, grows_only: false, schema, text })
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

    /// Where the rows end that can be shown, if no other can ever be.
    fn last_needed(&self) -> Option<usize> {
        self.limit.filter(|_| self.grows_only).map(|limit| self.offset.saturating_add(limit))
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
        while self.last_needed().is_some_and(|needed| self.rows.len() > needed) {
            self.bytes -= self.rows.pop_last().map_or(0, |(row, _)| row.len());
        }
        Delta::concat(&self.schema, &parts)?.consolidate()
    }

    fn learn(&mut self, inputs: &[&Outlook]) -> Outlook {
        self.grows_only = inputs.iter().all(|input| input.grows_only);
        match (self.limit, inputs.first()) {
            (None, Some(input)) => input.unknown(),
            _ => Outlook::default(),
        }
    }

    fn keeps(&self) -> Keeps {
        if self.last_needed().is_some() { Keeps::Nothing } else { Keeps::Rows }
    }

    fn kept_for_ever(&self, _: usize) -> Option<Kept> {
        self.last_needed().is_none().then(|| Kept {
            why: "one behind the first rows moves up when one of these goes".to_owned(),
            instead: "order rows that never go, such as the source's own",
            by_key: "order rows that never go, such as the source's own",
            word: "limit|fetch|offset|order by".to_owned(),
        })
    }

    fn held(&self) -> Held {
        Held { rows: self.rows.len(), bytes: self.bytes + self.rows.len() * 48 }
    }

    fn describe(&self) -> String {
        self.text.clone()
    }
}
