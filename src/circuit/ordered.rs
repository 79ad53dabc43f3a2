//! Aggregates over the ordered rows of a group: min, max, first_value, last_value, array_agg, and any other by
//! computing the touched groups anew.
//!
//! Each group holds an ordered multiset of the values that the aggregates use, as comparable bytes: the ORDER BY columns
//! first, then the arguments. Aggregates of one node that use the same values in the same order share one multiset.

use std::cmp::Ordering;
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

use crate::state::{StateReader, StateWriter};

use super::aggregate::{Accumulate, Failures};
use super::saved;
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

/// Values with their weights, in order.
#[derive(Debug)]
enum Multiset {
    /// A few of them, one behind the other in one piece of memory: of each its weight, its length and its bytes.
    Few(Vec<u8>),
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
        let filled: NullBuffer = groups.iter().map(|&group| self.groups[group as usize].first().is_some()).collect();
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
        self.groups[group as usize] = Multiset::default();
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

    fn save(&self, state: &mut StateWriter) -> Result<()> {
        let values =
            || (0_u32..).zip(&self.groups).flat_map(|(group, held)| held.weighted().map(move |one| (group, one)));
        state.rows(saved::batch([
            ("group", saved::groups(values().map(|(group, _)| group))),
            ("value", saved::bytes(values().map(|(_, (value, _))| value))),
            ("weight", saved::numbers(values().map(|(_, (_, weight))| weight))),
        ])?);
        Ok(())
    }

    fn load(&mut self, groups: usize, state: &mut StateReader) -> Result<()> {
        let held = state.rows()?;
        let of = saved::groups_of(&held, 0, groups)?;
        for ((group, value), weight) in of.into_iter().zip(saved::bytes_of(&held, 1)?).zip(saved::numbers_of(&held, 2)?)
        {
            self.groups[group as usize].add(&value, weight);
        }
        Ok(())
    }
}

impl Default for Multiset {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Multiset {
    /// Adds a weight to a value; false if the value's weight is below zero now.
    fn add(&mut self, value: &[u8], weight: i64) -> bool {
        let left = match self {
            Self::Few(packed) => add_packed(packed, value, weight),
            Self::Many(values) => match values.get_mut(value) {
                Some(count) => {
                    *count += weight;
                    let left = *count;
                    if left == 0 {
                        values.remove(value);
                    }
                    left
                }
                None => {
                    values.insert(value.into(), weight);
                    weight
                }
            },
        };
        self.fit();
        left >= 0
    }

    /// Keeps few values in one way and many in the other.
    fn fit(&mut self) {
        match self {
            // Fewer bytes than so many heads can't be more values.
            Self::Few(packed) if packed.len() > FEW_MAX * HEAD && unpacked(packed).count() > FEW_MAX => {
                *self = Self::Many(unpacked(packed).map(|(value, weight)| (value.into(), weight)).collect());
            }
            Self::Many(values) if values.len() <= FEW_MAX / 2 => {
                let mut packed = Vec::new();
                values.iter().for_each(|(value, &weight)| packed.extend(entry(value, weight)));
                *self = Self::Few(packed);
            }
            _ => {}
        }
    }

    fn has_negative(&self) -> bool {
        match self {
            Self::Few(packed) => unpacked(packed).any(|(_, weight)| weight < 0),
            Self::Many(values) => values.values().any(|&count| count < 0),
        }
    }

    fn first(&self) -> Option<&[u8]> {
        match self {
            Self::Few(packed) => unpacked(packed).next().map(|(value, _)| value),
            Self::Many(values) => values.keys().next().map(|value| &**value),
        }
    }

    fn last(&self) -> Option<&[u8]> {
        match self {
            Self::Few(packed) => unpacked(packed).last().map(|(value, _)| value),
            Self::Many(values) => values.keys().next_back().map(|value| &**value),
        }
    }

    /// All values in order, each as often as its weight.
    fn iter(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        let times = |count: i64| usize::try_from(count).unwrap_or(0);
        match self {
            Self::Few(packed) => {
                Box::new(unpacked(packed).flat_map(move |(value, count)| std::iter::repeat_n(value, times(count))))
            }
            Self::Many(values) => {
                Box::new(values.iter().flat_map(move |(value, &count)| std::iter::repeat_n(&**value, times(count))))
            }
        }
    }

    /// All values in order, each once, with its weight.
    fn weighted(&self) -> Box<dyn Iterator<Item = (&[u8], i64)> + '_> {
        match self {
            Self::Few(packed) => Box::new(unpacked(packed)),
            Self::Many(values) => Box::new(values.iter().map(|(value, &weight)| (&**value, weight))),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Few(packed) => 32 + packed.capacity(),
            Self::Many(values) => values.keys().map(|value| 48 + value.len()).sum(),
        }
    }
}

/// Adds a weight to a value among packed ones; returns its weight now.
fn add_packed(packed: &mut Vec<u8>, value: &[u8], weight: i64) -> i64 {
    let mut at = 0;
    let mut held = None;
    for (known, count) in unpacked(packed) {
        match known.cmp(value) {
            Ordering::Less => at += HEAD + known.len(),
            Ordering::Equal => {
                held = Some(count);
                break;
            }
            Ordering::Greater => break,
        }
    }
    let left = held.unwrap_or(0) + weight;
    let old = if held.is_some() { at..at + HEAD + value.len() } else { at..at };
    let new = (left != 0).then(|| entry(value, left));
    packed.splice(old, new.into_iter().flatten());
    left
}

/// A value as it is packed.
fn entry(value: &[u8], weight: i64) -> impl Iterator<Item = u8> + '_ {
    weight.to_le_bytes().into_iter().chain((value.len() as u64).to_le_bytes()).chain(value.iter().copied())
}

/// Packed values with their weights.
fn unpacked(mut packed: &[u8]) -> impl Iterator<Item = (&[u8], i64)> {
    std::iter::from_fn(move || {
        let (weight, rest) = packed.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        packed = rest;
        Some((value, i64::from_le_bytes(*weight)))
    })
}

fn missing_column() -> DataFusionError {
    DataFusionError::Internal("a multiset lacks a column of its aggregate".to_owned())
}

/// Groups with more values than this keep them in a tree.
const FEW_MAX: usize = 16;
/// Bytes in front of a packed value: its weight and its length.
const HEAD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Random values of several lengths come and go as in a tree, while they are few and while they are many.
    #[test]
    fn a_multiset_is_in_order_while_its_values_become_many_and_few_again() {
        let mut state = 5_u64;
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let mut multiset = Multiset::default();
        let mut model: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        let (mut few, mut many) = (0, 0);
        for step in 0..6_000 {
            let bound = if step / 1_000 % 2 == 0 { 60 } else { 6 };
            let value = vec![u8::try_from(random(bound)).expect("small"); usize::try_from(random(3)).expect("small")];
            let weight = if random(2) == 0 { 1 } else { -1 };
            let wanted = model.get(&value).copied().unwrap_or(0) + weight;
            assert_eq!(multiset.add(&value, weight), wanted >= 0, "step {step}");
            if wanted == 0 {
                model.remove(&value)
            } else {
                model.insert(value, wanted)
            };
            // The values of the other phase go when a phase ends.
            if step % 1_000 == 999 {
                for (value, weight) in std::mem::take(&mut model) {
                    multiset.add(&value, -weight);
                }
                assert!(multiset.first().is_none(), "step {step}");
            }
            match &multiset {
                Multiset::Few(_) => few += 1,
                Multiset::Many(_) => many += 1,
            }
            let times = |(value, &weight)| std::iter::repeat_n(value, usize::try_from(weight).unwrap_or(0));
            let expected: Vec<&Vec<u8>> = model.iter().flat_map(times).collect();
            assert_eq!(multiset.iter().collect::<Vec<_>>(), expected, "step {step}");
            assert_eq!(multiset.first(), model.keys().next().map(Vec::as_slice), "step {step}");
            assert_eq!(multiset.last(), model.keys().next_back().map(Vec::as_slice), "step {step}");
            assert_eq!(multiset.has_negative(), model.values().any(|&weight| weight < 0), "step {step}");
        }
        assert!(few > 1_000 && many > 1_000, "{few}, {many}");
    }
}
