//! DISTINCT in an aggregate: counted per group and value.
//!
//! A value is passed on when its count leaves zero, and taken back when its count is zero again; the aggregate behind sees
//! each value once.

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::error::{DataFusionError, Result};
use hashbrown::{HashMap, HashSet};

use crate::state::{StateReader, StateWriter, take_rows};

use super::aggregate::{Accumulate, Failures};
use super::saved;
use super::sums::Inputs;

/// How often each value of an argument stands in each group, in front of an aggregate of the distinct ones.
pub(crate) struct Distinct {
    inputs: Inputs,
    argument: usize,
    converter: RowConverter,
    counts: HashMap<Box<[u8]>, i64, foldhash::fast::FixedState>,
    behind: Box<dyn Accumulate>,
}

impl Distinct {
    /// The distinct values of the column `argument`, of this type, as far as `inputs` lets rows count, for `behind`.
    pub(crate) fn new(inputs: Inputs, argument: usize, kind: &DataType, behind: Box<dyn Accumulate>) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(kind.clone())])?;
        Ok(Self { inputs, argument, converter, counts: HashMap::default(), behind })
    }
}

/// A value of a group that a delta touches: a row that holds it, and whether it stood there before.
struct Touched {
    key: Box<[u8]>,
    row: usize,
    held: bool,
}

impl Accumulate for Distinct {
    fn grow(&mut self, groups: usize) {
        self.behind.grow(groups);
    }

    /// A group without rows has no value that counts.
    fn clear(&mut self, group: u32) {
        self.behind.clear(group);
    }

    fn update(&mut self, groups: &[u32], weights: &[i64], input: &RecordBatch) -> Result<()> {
        let values = self.converter.convert_columns(&[ArrayRef::clone(input.column(self.argument))])?;
        let mut seen: HashSet<Box<[u8]>, foldhash::fast::FixedState> = HashSet::default();
        let mut touched: Vec<Touched> = Vec::new();
        let mut key: Vec<u8> = Vec::new();
        let counts = &mut self.counts;
        self.inputs.for_each(input, |row| {
            key.clear();
            key.extend_from_slice(&groups[row].to_be_bytes());
            key.extend_from_slice(values.row(row).data());
            if !seen.contains(key.as_slice()) {
                let held = counts.contains_key(key.as_slice());
                seen.insert(key.as_slice().into());
                touched.push(Touched { key: key.as_slice().into(), row, held });
            }
            match counts.get_mut(key.as_slice()) {
                Some(count) => *count += weights[row],
                None => {
                    counts.insert(key.as_slice().into(), weights[row]);
                }
            }
        })?;
        let (mut rows, mut changes): (Vec<u32>, Vec<i64>) = (Vec::new(), Vec::new());
        for value in touched {
            let count = self.counts.get(&value.key).copied().unwrap_or(0);
            if count < 0 {
                return Err(DataFusionError::Internal("a value goes that its group does not hold".to_owned()));
            }
            if count == 0 {
                self.counts.remove(&value.key);
            }
            if value.held != (count > 0) {
                rows.push(u32::try_from(value.row).unwrap_or(u32::MAX));
                changes.push(if value.held { -1 } else { 1 });
            }
        }
        let of: Vec<u32> = rows.iter().map(|&row| groups[row as usize]).collect();
        self.behind.update(&of, &changes, &take_rows(input, &UInt32Array::from(rows))?)
    }

    fn evaluate(&self, groups: &[u32], failures: &mut Failures) -> Result<Vec<(usize, ArrayRef)>> {
        self.behind.evaluate(groups, failures)
    }

    fn keeps_values(&self) -> bool {
        true
    }

    fn save(&self, state: &mut StateWriter) -> Result<()> {
        let mut counts: Vec<(&[u8], i64)> = self.counts.iter().map(|(value, &count)| (&**value, count)).collect();
        counts.sort_unstable();
        state.rows(saved::batch([
            ("value", saved::bytes(counts.iter().map(|&(value, _)| value))),
            ("count", saved::numbers(counts.iter().map(|&(_, count)| count))),
        ])?);
        self.behind.save(state)
    }

    fn load(&mut self, groups: usize, state: &mut StateReader) -> Result<()> {
        let held = state.rows()?;
        self.counts = saved::bytes_of(&held, 0)?.into_iter().zip(saved::numbers_of(&held, 1)?).collect();
        self.behind.load(groups, state)
    }

    fn bytes(&self) -> usize {
        self.behind.bytes() + self.counts.keys().map(|key| key.len() + 32).sum::<usize>()
    }
}
