//! Aggregates over the ordered rows of a group: min, max, first_value, last_value, array_agg, and any other by
//! computing the touched groups anew.
//!
//! Each group holds an ordered multiset of the values that the aggregates use, as comparable bytes: the ORDER BY columns
//! first, then the arguments. Aggregates of one node that use the same values in the same order share one multiset.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{DataType, Field};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::aggregate::{Accumulate, Failures};
use super::sums::Inputs;

/// One ordered multiset a group.
pub(crate) struct Ordered {
    columns: Vec<(usize, SortOptions)>,
    inputs: Inputs,
    results: Vec<OrderedResult>,
    converter: RowConverter,
    groups: Vec<Multiset>,
}

/// One aggregate over the multiset.
pub(crate) struct OrderedResult {
    /// Its position among the aggregates of its node.
    pub(crate) output: usize,
    /// What it shows.
    pub(crate) shows: Shows,
}

/// What an aggregate shows of the ordered rows; positions are among the multiset's columns.
pub(crate) enum Shows {
    /// The value of a column in the first row.
    First(usize),
    /// The value of a column in the last row.
    Last(usize),
    /// The values of a column in all rows, as a list.
    All(usize, Arc<Field>),
    /// What DataFusion's own accumulator makes of all rows, given these arguments and ORDER BY columns.
    Computed(Arc<AggregateFunctionExpr>, Vec<Argument>),
}

/// What an accumulator is given for each row.
pub(crate) enum Argument {
    /// The column at this position of the multiset.
    Column(usize),
    /// The same value always: the `0.9` of a percentile.
    Value(ScalarValue),
}

#[derive(Debug, Default)]
enum Multiset {
    #[default]
    Empty,
    One(Box<[u8]>, i64),
    Many(BTreeMap<Box<[u8]>, i64>),
}

impl Ordered {
    /// A multiset of these columns of the aggregation's input, in this order; rows count as `inputs` says.
    pub(crate) fn new(
        columns: Vec<(usize, SortOptions)>,
        types: &[DataType],
        inputs: Inputs,
        results: Vec<OrderedResult>,
    ) -> Result<Self> {
        let fields = columns
            .iter()
            .zip(types)
            .map(|(&(_, options), data_type)| SortField::new_with_options(data_type.clone(), options))
            .collect();
        Ok(Self { columns, inputs, results, converter: RowConverter::new(fields)?, groups: Vec::new() })
    }

    fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        Ok(self.converter.convert_rows(rows.map(|row| parser.parse(row)))?)
    }

    /// A column of one row a group: null for groups without rows.
    fn one_each<'a>(
        &'a self,
        groups: &[u32],
        column: usize,
        pick: impl Fn(&'a Multiset) -> Option<&'a [u8]>,
    ) -> Result<ArrayRef> {
        let picked: Vec<Option<&[u8]>> = groups.iter().map(|&group| pick(&self.groups[group as usize])).collect();
        let mut next = 0_u32;
        let places: UInt32Array = picked
            .iter()
            .map(|row| {
                row.map(|_| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let decoded = self.decode(picked.into_iter().flatten())?;
        let values = decoded.get(column).ok_or_else(missing_column)?;
        Ok(take(values, &places, None)?)
    }

    fn lists(&self, groups: &[u32], column: usize, field: &Arc<Field>) -> Result<ArrayRef> {
        let rows = groups.iter().flat_map(|&group| self.groups[group as usize].iter());
        let decoded = self.decode(rows)?;
        let values = decoded.get(column).ok_or_else(missing_column)?;
        let lengths = groups.iter().map(|&group| self.groups[group as usize].iter().count());
        let filled: NullBuffer =
            groups.iter().map(|&group| !matches!(self.groups[group as usize], Multiset::Empty)).collect();
        let values = arrow::compute::cast(values, field.data_type())?;
        let list = ListArray::try_new(Arc::clone(field), OffsetBuffer::from_lengths(lengths), values, Some(filled))?;
        Ok(Arc::new(list))
    }

    /// What an accumulator of its own makes of each group's rows; groups on which it fails are named in `failures`.
    fn computed(
        &self,
        groups: &[u32],
        output: usize,
        call: &AggregateFunctionExpr,
        arguments: &[Argument],
        failures: &mut Failures,
    ) -> Result<ArrayRef> {
        let field = call.field();
        let mut results = Vec::with_capacity(groups.len());
        for (position, &group) in groups.iter().enumerate() {
            let decoded = self.decode(self.groups[group as usize].iter())?;
            let rows = decoded.first().map_or(0, |column| column.len());
            let values: Vec<ArrayRef> = arguments
                .iter()
                .map(|argument| match argument {
                    Argument::Column(column) => decoded.get(*column).cloned().ok_or_else(missing_column),
                    Argument::Value(value) => value.to_array_of_size(rows),
                })
                .collect::<Result<_>>()?;
            let mut accumulator = call.create_accumulator()?;
            let updated = if rows == 0 { Ok(()) } else { accumulator.update_batch(&values) };
            results.push(match updated.and_then(|()| accumulator.evaluate()) {
                Ok(value) => value,
                Err(error) => {
                    failures.add(position, output, error.find_root().strip_backtrace());
                    ScalarValue::try_from(field.data_type())?
                }
            });
        }
        if results.is_empty() {
            return Ok(arrow::array::new_empty_array(field.data_type()));
        }
        ScalarValue::iter_to_array(results)
    }

    fn encode(&self, input: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|&(column, _)| Arc::clone(input.column(column))).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }
}

impl Accumulate for Ordered {
    fn grow(&mut self, groups: usize) {
        self.groups.resize_with(groups, Multiset::default);
    }

    fn clear(&mut self, group: u32) {
        self.groups[group as usize] = Multiset::Empty;
    }

    fn update(&mut self, groups: &[u32], weights: &[i64], input: &RecordBatch) -> Result<()> {
        let rows = self.encode(input)?;
        let held = &mut self.groups;
        let mut missing = false;
        self.inputs.for_each(input, |row| {
            missing |= !held[groups[row] as usize].add(rows.row(row).data(), weights[row]);
        })?;
        // Insertions may stand behind removals of the same value within one delta; what is left negative at the end is wrong.
        let unsound = missing && groups.iter().any(|&group| held[group as usize].has_negative());
        if unsound {
            return Err(DataFusionError::Internal("a value goes that its group does not hold".to_owned()));
        }
        Ok(())
    }

    fn evaluate(&self, groups: &[u32], failures: &mut Failures) -> Result<Vec<(usize, ArrayRef)>> {
        self.results
            .iter()
            .map(|result| {
                let array = match &result.shows {
                    Shows::First(column) => self.one_each(groups, *column, Multiset::first)?,
                    Shows::Last(column) => self.one_each(groups, *column, Multiset::last)?,
                    Shows::All(column, field) => self.lists(groups, *column, field)?,
                    Shows::Computed(call, arguments) => {
                        self.computed(groups, result.output, call, arguments, failures)?
                    }
                };
                Ok((result.output, array))
            })
            .collect()
    }

    fn keeps_values(&self) -> bool {
        true
    }

    fn bytes(&self) -> usize {
        self.groups.iter().map(Multiset::bytes).sum()
    }
}

impl Multiset {
    /// Adds a weight to a value; false if the value's weight is below zero now.
    fn add(&mut self, value: &[u8], weight: i64) -> bool {
        match self {
            Self::Empty => {
                *self = Self::One(value.into(), weight);
                weight >= 0
            }
            Self::One(held, count) if **held == *value => {
                *count += weight;
                let left = *count;
                if left == 0 {
                    *self = Self::Empty;
                }
                left >= 0
            }
            Self::One(..) => {
                let Self::One(held, count) = std::mem::take(self) else { return false };
                *self = Self::Many(BTreeMap::from([(held, count), (value.into(), weight)]));
                weight >= 0
            }
            Self::Many(values) => {
                if let Some(count) = values.get_mut(value) {
                    *count += weight;
                    let left = *count;
                    if left == 0 {
                        values.remove(value);
                    }
                    self.shrink();
                    return left >= 0;
                }
                values.insert(value.into(), weight);
                weight >= 0
            }
        }
    }

    fn shrink(&mut self) {
        let Self::Many(values) = self else { return };
        if values.len() <= 1 {
            *self = values.pop_first().map_or(Self::Empty, |(value, count)| Self::One(value, count));
        }
    }

    fn has_negative(&self) -> bool {
        match self {
            Self::Empty => false,
            Self::One(_, count) => *count < 0,
            Self::Many(values) => values.values().any(|&count| count < 0),
        }
    }

    fn first(&self) -> Option<&[u8]> {
        match self {
            Self::Empty => None,
            Self::One(value, _) => Some(value),
            Self::Many(values) => values.keys().next().map(|value| &**value),
        }
    }

    fn last(&self) -> Option<&[u8]> {
        match self {
            Self::Empty => None,
            Self::One(value, _) => Some(value),
            Self::Many(values) => values.keys().next_back().map(|value| &**value),
        }
    }

    /// All values in order, each as often as its weight.
    fn iter(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        let times = |count: i64| usize::try_from(count).unwrap_or(0);
        match self {
            Self::Empty => Box::new(std::iter::empty()),
            Self::One(value, count) => Box::new(std::iter::repeat_n(&**value, times(*count))),
            Self::Many(values) => {
                Box::new(values.iter().flat_map(move |(value, &count)| std::iter::repeat_n(&**value, times(count))))
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Empty => 16,
            Self::One(value, _) => 32 + value.len(),
            Self::Many(values) => values.keys().map(|value| 48 + value.len()).sum(),
        }
    }
}

fn missing_column() -> DataFusionError {
    DataFusionError::Internal("a multiset lacks a column of its aggregate".to_owned())
}
