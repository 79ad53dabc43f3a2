//! GROUP BY: accumulators a group, moved by the weights of the delta.
//!
//! For each touched group: the row it showed goes, the row it shows now appears; a group without rows shows none. A
//! grouping by nothing has one group, always. A group with a value that can't be expressed (a sum beyond its type) shows an
//! error row in place of its row, until its input is such that it can.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::{DataFusionError, Result};
use std::hash::BuildHasher;

use crate::state::{Delta, KeyIndex, Match, StateReader, StateWriter, normalise_zero, with_rows};

use super::expression::row_text;
use super::{ErrorRow, Held, Keeps, Operator, StepContext, saved};

/// The state of one or several aggregate calls over all groups.
pub(crate) trait Accumulate: Send {
    /// Makes room for this many groups.
    fn grow(&mut self, groups: usize);
    /// Makes a group as good as new.
    fn clear(&mut self, group: u32);
    /// Adds rows, each to its group with its weight.
    fn update(&mut self, groups: &[u32], weights: &[i64], input: &RecordBatch) -> Result<()>;
    /// The values for these groups; each column with its position among the node's aggregates. A group whose value can't
    /// be expressed is named in `failures`; whatever stands in its place is not shown.
    fn evaluate(&self, groups: &[u32], failures: &mut Failures) -> Result<Vec<(usize, ArrayRef)>>;
    /// Whether it keeps the values of every row, and not only a few of each group.
    fn keeps_values(&self) -> bool {
        false
    }
    /// Bytes held, roughly.
    fn bytes(&self) -> usize;
    /// Writes what it holds of all groups.
    fn save(&self, state: &mut StateWriter) -> Result<()>;
    /// Takes up what was written of so many groups, for which it has room already.
    fn load(&mut self, groups: usize, state: &mut StateReader) -> Result<()>;
}

/// The groups with a value that can't be expressed, by their position among those that are evaluated: of the first such
/// aggregate its position among the node's, and what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Failures(BTreeMap<usize, (usize, String)>);

impl Failures {
    /// The aggregate at `output` has no value for the group at `position`.
    pub(crate) fn add(&mut self, position: usize, output: usize, reason: String) {
        let known = self.0.get(&position).is_some_and(|&(known, _)| known < output);
        if !known {
            self.0.insert(position, (output, reason));
        }
    }

    fn has(&self, position: usize) -> bool {
        self.0.contains_key(&position)
    }
}

/// An aggregation. Its input has the group columns first, then what the accumulators use.
pub(crate) struct Aggregate {
    keys: usize,
    accumulators: Vec<Box<dyn Accumulate>>,
    calls: Vec<String>,
    schema: SchemaRef,
    groups: Groups,
    result_converter: RowConverter,
    text: String,
    groups_text: String,
}

/// What the aggregates show for some groups.
struct Shown {
    columns: Vec<ArrayRef>,
    failures: Failures,
}

/// Group keys as bytes, with how many rows each group has.
struct Groups {
    converter: RowConverter,
    index: KeyIndex,
    keys: Vec<Box<[u8]>>,
    rows: Vec<i64>,
    free: Vec<u32>,
    hasher: foldhash::fast::FixedState,
}

impl Aggregate {
    /// An aggregation by the first `keys` columns of its input; `schema` has the group columns, then the value of each of
    /// the `calls`, which are given as their author would recognise them.
    pub(crate) fn new(
        keys: usize,
        accumulators: Vec<Box<dyn Accumulate>>,
        calls: Vec<String>,
        schema: SchemaRef,
        text: String,
        groups_text: String,
    ) -> Result<Self> {
        let fields = |range: std::ops::Range<usize>| {
            range.map(|column| SortField::new(schema.field(column).data_type().clone())).collect::<Vec<_>>()
        };
        let groups = Groups {
            converter: RowConverter::new(fields(0..keys))?,
            index: KeyIndex::default(),
            keys: Vec::new(),
            rows: Vec::new(),
            free: Vec::new(),
            hasher: foldhash::fast::FixedState::default(),
        };
        let result_converter = RowConverter::new(fields(keys..schema.fields().len()))?;
        Ok(Self { keys, accumulators, calls, schema, groups, result_converter, text, groups_text })
    }

    fn assign(&mut self, input: &RecordBatch) -> Result<Vec<u32>> {
        let assigned = self.groups.assign(&input.columns()[..self.keys], input.num_rows())?;
        let groups = self.groups.keys.len();
        for accumulator in &mut self.accumulators {
            accumulator.grow(groups);
        }
        Ok(assigned)
    }

    /// Whether a group shows a row.
    fn shows(&self, group: u32) -> bool {
        self.keys == 0 || self.groups.rows[group as usize] > 0
    }

    fn results(&self, groups: &[u32]) -> Result<Shown> {
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.calls.len()];
        let mut failures = Failures::default();
        for accumulator in &self.accumulators {
            for (position, column) in accumulator.evaluate(groups, &mut failures)? {
                if let Some(place) = columns.get_mut(position) {
                    *place = Some(column);
                }
            }
        }
        let columns = columns
            .into_iter()
            .map(|column| column.ok_or_else(|| DataFusionError::Internal("an aggregate has no result".to_owned())))
            .collect::<Result<_>>()?;
        Ok(Shown { columns, failures })
    }

    fn rows_of(&self, groups: &[u32], results: Vec<ArrayRef>) -> Result<RecordBatch> {
        let columns = self.groups.columns(groups)?.into_iter().chain(results).collect();
        with_rows(&self.schema, columns, groups.len())
    }

    /// Which of the groups show other values than before.
    fn differing(&self, before: &Shown, after: &Shown, rows: usize) -> Result<Vec<bool>> {
        if self.calls.is_empty() {
            return Ok(vec![false; rows]);
        }
        let values_before = self.result_converter.convert_columns(&before.columns)?;
        let values_after = self.result_converter.convert_columns(&after.columns)?;
        let differs = |row: usize| {
            before.failures.has(row) != after.failures.has(row) || values_before.row(row) != values_after.row(row)
        };
        Ok((0..rows).map(differs).collect())
    }

    /// The change of the shown rows, given what was shown before.
    fn change(&self, touched: &[u32], shown: &[bool], before: &Shown, context: &mut StepContext) -> Result<Delta> {
        let after = self.results(touched)?;
        let differs = self.differing(before, &after, touched.len())?;
        let shows: Vec<bool> = touched.iter().map(|&group| self.shows(group)).collect();
        let rows = |keep: &dyn Fn(usize) -> bool| -> Vec<u32> {
            (0_u32..).take(touched.len()).filter(|&row| keep(row as usize)).collect()
        };
        let gone = rows(&|row| shown[row] && !before.failures.has(row) && (!shows[row] || differs[row]));
        let appeared = rows(&|row| shows[row] && !after.failures.has(row) && (!shown[row] || differs[row]));
        let pick = |positions: &[u32], results: &Shown, weight: i64| -> Result<Delta> {
            let groups: Vec<u32> = positions.iter().map(|&row| touched[row as usize]).collect();
            let indices = UInt32Array::from(positions.to_vec());
            let picked =
                results.columns.iter().map(|column| Ok(take(column, &indices, None)?)).collect::<Result<_>>()?;
            Ok(Delta::new(self.rows_of(&groups, picked)?, vec![weight; groups.len()]))
        };
        self.report(touched, shown, before, -1, context)?;
        self.report(touched, &shows, &after, 1, context)?;
        Delta::concat(&self.schema, &[pick(&gone, before, -1)?, pick(&appeared, &after, 1)?])
    }

    /// The error rows of the groups that can't show their values.
    fn report(
        &self,
        touched: &[u32],
        shown: &[bool],
        results: &Shown,
        weight: i64,
        context: &mut StepContext,
    ) -> Result<()> {
        for (&position, (output, reason)) in results.failures.0.iter().filter(|&(&position, _)| shown[position]) {
            let key = RecordBatch::try_from_iter(
                self.schema.fields().iter().map(|field| field.name()).zip(self.groups.columns(&[touched[position]])?),
            );
            context.errors.push(ErrorRow {
                job: usize::MAX,
                expression: self.calls.get(*output).cloned().unwrap_or_default(),
                reason: reason.clone(),
                row: if self.keys == 0 { "all rows".to_owned() } else { row_text(&key?) },
                weight,
            });
        }
        Ok(())
    }
}

impl Operator for Aggregate {
    fn step(&mut self, inputs: &[&Delta], context: &mut StepContext) -> Result<Delta> {
        let Some(&input) = inputs.first() else { return Ok(Delta::empty(&self.schema)) };
        let assigned = self.assign(input.batch())?;
        let mut touched = assigned.clone();
        touched.sort_unstable();
        touched.dedup();
        let born = self.keys == 0 && context.first;
        if born {
            touched = self.assign_only_group()?;
        }
        let shown: Vec<bool> = touched.iter().map(|&group| !born && self.shows(group)).collect();
        let before = self.results(&touched)?;
        for (&group, &weight) in assigned.iter().zip(input.weights()) {
            self.groups.rows[group as usize] += weight;
        }
        for accumulator in &mut self.accumulators {
            accumulator.update(&assigned, input.weights(), input.batch())?;
        }
        if touched.iter().any(|&group| self.groups.rows[group as usize] < 0) {
            return Err(DataFusionError::Internal("a group has fewer than no rows".to_owned()));
        }
        let delta = self.change(&touched, &shown, &before, context)?;
        for &group in &touched {
            if !self.shows(group) {
                self.groups.release(group);
                self.accumulators.iter_mut().for_each(|accumulator| accumulator.clear(group));
            }
        }
        Ok(delta)
    }

    fn save(&self, state: &mut StateWriter) -> Result<()> {
        self.groups.save(state)?;
        self.accumulators.iter().try_for_each(|accumulator| accumulator.save(state))
    }

    fn load(&mut self, state: &mut StateReader) -> Result<()> {
        self.groups.load(state)?;
        let groups = self.groups.keys.len();
        for accumulator in &mut self.accumulators {
            accumulator.grow(groups);
            accumulator.load(groups, state)?;
        }
        Ok(())
    }

    fn keeps(&self) -> Keeps {
        let groups = self.groups_text.clone();
        let whole = self.accumulators.iter().any(|accumulator| accumulator.keeps_values());
        if whole { Keeps::RowsByGroup(groups) } else { Keeps::Groups(groups) }
    }

    fn held(&self) -> Held {
        let keys: usize = self.groups.keys.iter().map(|key| key.len() + 32).sum();
        Held {
            rows: self.groups.keys.len() - self.groups.free.len(),
            bytes: keys
                + self.groups.index.bytes()
                + self.accumulators.iter().map(|accumulator| accumulator.bytes()).sum::<usize>(),
        }
    }

    fn describe(&self) -> String {
        self.text.clone()
    }
}

impl Aggregate {
    /// The one group of a grouping by nothing.
    fn assign_only_group(&mut self) -> Result<Vec<u32>> {
        let group = self.groups.assign(&[], 1)?;
        let groups = self.groups.keys.len();
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.grow(groups));
        Ok(group)
    }
}

impl Groups {
    /// The group of each row; new ones are made.
    fn assign(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        if keys.is_empty() {
            return (0..rows).map(|_| self.group_of(&[])).collect();
        }
        let keys: Vec<ArrayRef> = keys.iter().map(normalise_zero).collect();
        let encoded = self.converter.convert_columns(&keys)?;
        let known = self.known(&encoded);
        encoded.iter().zip(known).map(|(row, known)| known.map_or_else(|| self.group_of(row.data()), Ok)).collect()
    }

    /// The group of each key that has one. What the look-ups read is read for all of them at once, so that none waits for
    /// another.
    fn known(&self, keys: &Rows) -> Vec<Option<u32>> {
        let mut found = Vec::with_capacity(keys.num_rows());
        self.index.find(keys.iter().map(|key| Some(self.hasher.hash_one(key.data()))), &mut found);
        let held = |found: &Match| &*self.keys[place(found.stored)];
        let lengths = found.iter().fold(0, |read, found| read ^ held(found).len());
        let bytes = found.iter().fold(0, |read, found| read ^ held(found).last().copied().unwrap_or(0));
        std::hint::black_box((lengths, bytes));
        let mut known = vec![None; keys.num_rows()];
        for found in &found {
            let row = found.probe as usize;
            if *held(found) == *keys.row(row).data() {
                known[row] = u32::try_from(found.stored).ok();
            }
        }
        known
    }

    fn group_of(&mut self, key: &[u8]) -> Result<u32> {
        let hash = self.hasher.hash_one(key);
        let known = self.index.newest(hash, hash, |group| *self.keys[place(group)] == *key);
        if let Some(group) = known.and_then(|group| u32::try_from(group).ok()) {
            return Ok(group);
        }
        let group = match self.free.pop() {
            Some(group) => {
                self.keys[group as usize] = key.into();
                group
            }
            None => {
                self.keys.push(key.into());
                self.rows.push(0);
                u32::try_from(self.keys.len() - 1)
                    .map_err(|_| DataFusionError::ResourcesExhausted("more than 2^32 groups".to_owned()))?
            }
        };
        self.index.extend(&[(hash, u64::from(group))], &|_| hash);
        Ok(group)
    }

    fn release(&mut self, group: u32) {
        let key = std::mem::take(&mut self.keys[group as usize]);
        let hash = self.hasher.hash_one(&*key);
        self.index.remove(hash, u64::from(group), hash);
        self.free.push(group);
    }

    fn save(&self, state: &mut StateWriter) -> Result<()> {
        let keys = saved::bytes(self.keys.iter().map(|key| &**key));
        state.rows(saved::batch([("key", keys), ("rows", saved::numbers(self.rows.iter().copied()))])?);
        state.rows(saved::batch([("free", saved::groups(self.free.iter().copied()))])?);
        Ok(())
    }

    fn load(&mut self, state: &mut StateReader) -> Result<()> {
        let held = state.rows()?;
        self.keys = saved::bytes_of(&held, 0)?;
        self.rows = saved::of_length(saved::numbers_of(&held, 1)?, self.keys.len())?;
        self.free = saved::groups_of(&state.rows()?, 0, self.keys.len())?;
        let mut free = vec![false; self.keys.len()];
        self.free.iter().for_each(|&group| free[group as usize] = true);
        let held = self.keys.iter().enumerate().filter(|&(group, _)| !free[group]);
        let entries: Vec<(u64, u64)> = held.map(|(group, key)| (self.hasher.hash_one(&**key), group as u64)).collect();
        let (keys, hasher) = (&self.keys, &self.hasher);
        self.index.extend(&entries, &|group| hasher.hash_one(&*keys[place(group)]));
        Ok(())
    }

    fn columns(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        Ok(self.converter.convert_rows(groups.iter().map(|&group| parser.parse(&self.keys[group as usize])))?)
    }
}

fn place(group: u64) -> usize {
    usize::try_from(group).expect("a group is in memory")
}
