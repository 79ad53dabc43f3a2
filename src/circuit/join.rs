//! Joins on equal keys, with an optional further condition.
//!
//! Δ(L ⋈ R) = ΔL ⋈ R + L ⋈ ΔR + ΔL ⋈ ΔR, with L and R as they were before the step: by look-ups of the deltas' keys in the
//! other side's arrangement, and of one delta in the other. A side whose rows show whether they have a match (outer, semi,
//! anti, mark) has beside each row the number of its matches; when a delta of the other side moves that number from zero or to
//! zero, the row's own contribution changes with it. The arrangements may be shared; these numbers are the join's own.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::JoinType;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::{DataFusionError, Result};
use hashbrown::HashMap;

use crate::state::{Delta, NullKeys, RowId, StateReader, StateWriter, equal_pairs, with_rows};

use super::arranged::{Arranged, Use};
use super::expression::{Compiled, all_true, evaluate_apart, nulls};
use super::{Held, Operator, StepContext, saved};

/// A join; see the module.
pub(super) struct Join {
    kind: JoinType,
    sides: [Side; 2],
    nulls: NullKeys,
    condition: Option<Compiled>,
    pair_schema: SchemaRef,
    schema: SchemaRef,
    text: String,
}

/// One input of a join.
pub(super) struct Side {
    /// Its rows, by join key.
    pub(super) rows: Use,
    /// The columns of the key.
    pub(super) key: Vec<usize>,
    /// How many of the columns belong to the join's output; the rest are computed keys.
    pub(super) width: usize,
    /// What its rows show by themselves.
    pub(super) shows: Own,
    /// How many matches its rows have, where they show it.
    pub(super) counts: Counts,
}

/// The numbers of matches that are not zero, by row.
#[derive(Default)]
pub(super) struct Counts(HashMap<RowId, i64, foldhash::fast::FixedState>);

/// What a row of a side contributes by itself, depending on whether it has a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// Nothing: inner.
    Never,
    /// Itself with nulls for the other side, while it has no match.
    OuterWithoutMatch,
    /// Itself, while it has no match.
    WithoutMatch,
    /// Itself, while it has a match.
    WithMatch,
    /// Itself and whether it has a match.
    Mark,
}

impl Own {
    /// Of the left and the right side of a join.
    pub(super) fn of(kind: JoinType) -> [Self; 2] {
        match kind {
            JoinType::Inner => [Self::Never, Self::Never],
            JoinType::Left => [Self::OuterWithoutMatch, Self::Never],
            JoinType::Right => [Self::Never, Self::OuterWithoutMatch],
            JoinType::Full => [Self::OuterWithoutMatch, Self::OuterWithoutMatch],
            JoinType::LeftAnti => [Self::WithoutMatch, Self::Never],
            JoinType::RightAnti => [Self::Never, Self::WithoutMatch],
            JoinType::LeftSemi => [Self::WithMatch, Self::Never],
            JoinType::RightSemi => [Self::Never, Self::WithMatch],
            JoinType::LeftMark => [Self::Mark, Self::Never],
            JoinType::RightMark => [Self::Never, Self::Mark],
        }
    }
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// Rows of one side.
#[derive(Clone, Copy)]
enum Rows<'a> {
    /// Of its delta, by position.
    New(&'a Delta),
    /// Of its arrangement.
    Before(Arranged<'a>),
}

/// Pairs of rows, left and right.
struct Pairs<'a> {
    rows: [Rows<'a>; 2],
    picked: [Vec<u64>; 2],
}

/// What a step did to the numbers of matches of a side: of each new row its number, of rows from before by how much it moved.
struct Tally {
    new: Vec<i64>,
    moved: Vec<(RowId, i64)>,
}

impl Join {
    /// A join of two sides; `condition` is compiled over the left side's columns followed by the right side's.
    pub(super) fn new(
        kind: JoinType,
        sides: [Side; 2],
        nulls: NullKeys,
        condition: Option<Compiled>,
        pair_schema: SchemaRef,
        schema: SchemaRef,
        text: String,
    ) -> Self {
        Self { kind, sides, nulls, condition, pair_schema, schema, text }
    }

    fn shows_pairs(&self) -> bool {
        matches!(self.kind, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
    }

    /// The pairs with equal keys of which a row is new.
    fn new_pairs<'a>(
        &self,
        deltas: [&'a Delta; 2],
        before: [Arranged<'a>; 2],
        keys: &[Vec<ArrayRef>; 2],
    ) -> Result<Vec<Pairs<'a>>> {
        let mut all = Vec::new();
        for (side, other) in [(LEFT, RIGHT), (RIGHT, LEFT)] {
            let found = before[other].probe(&keys[side], deltas[side].len())?;
            let mut rows = before.map(Rows::Before);
            rows[side] = Rows::New(deltas[side]);
            let mut picked = [Vec::new(), Vec::new()];
            picked[side] = found.iter().map(|found| u64::from(found.probe)).collect();
            picked[other] = found.iter().map(|found| found.stored).collect();
            all.push(Pairs { rows, picked });
        }
        if deltas.iter().all(|delta| !delta.is_empty()) {
            let [left, right] = deltas;
            let found = equal_pairs(&keys[LEFT], left.len(), &keys[RIGHT], right.len(), self.nulls)?;
            let (lefts, rights) = found.into_iter().map(|(left, right)| (u64::from(left), u64::from(right))).unzip();
            all.push(Pairs { rows: deltas.map(Rows::New), picked: [lefts, rights] });
        }
        all.retain(|pairs| !pairs.is_empty());
        Ok(all)
    }

    /// The pairs that satisfy the condition, and what they show. A pair that the condition fails on is an error row, and no
    /// match.
    fn meet(&self, pairs: &mut Pairs<'_>, context: &mut StepContext) -> Result<Option<Delta>> {
        if self.condition.is_none() && !self.shows_pairs() {
            return Ok(None);
        }
        let columns = [pairs.columns(LEFT, &self.sides[LEFT])?, pairs.columns(RIGHT, &self.sides[RIGHT])?].concat();
        let batch = with_rows(&self.pair_schema, columns, pairs.len())?;
        let mut shown = Delta::new(batch, pairs.weights());
        if let Some(condition) = &self.condition {
            let masks = match condition.evaluate(shown.batch()) {
                Ok(mask) => vec![mask],
                Err(_) => {
                    let (good, masks) = evaluate_apart(std::slice::from_ref(condition), &shown, context)?;
                    pairs.keep(&good);
                    shown = shown.filter(&good)?;
                    masks
                }
            };
            for mask in &masks {
                let mask = as_boolean_array(mask)?;
                if !all_true(mask) {
                    pairs.keep(mask);
                    shown = shown.filter(mask)?;
                }
            }
        }
        if self.shows_pairs() && !shown.is_empty() { Ok(Some(shown.with_schema(&self.schema)?)) } else { Ok(None) }
    }

    /// What the rows of a side show by themselves, before and after the step; takes note of their matches.
    fn own_change(
        &mut self,
        side: usize,
        delta: &Delta,
        keys: &[ArrayRef],
        before: Arranged<'_>,
        tally: Tally,
    ) -> Result<Vec<Delta>> {
        let mut parts = Vec::new();
        parts.extend(self.contribution(side, delta.batch().columns(), delta.weights(), &tally.new)?);
        let counts = &mut self.sides[side].counts;
        for (row, id) in before.coming(keys, delta.weights()) {
            counts.set(id, tally.new[row]);
        }
        let changed = counts.shift(tally.moved)?;
        if changed.is_empty() {
            return Ok(parts);
        }
        let rows: Vec<RowId> = changed.iter().map(|&(row, _, _)| row).collect();
        let columns = before.gather(self.sides[side].width, &rows)?;
        let weights = before.weights(rows.into_iter());
        let gone: Vec<i64> = weights.iter().map(|weight| -weight).collect();
        let (counts_before, counts_after): (Vec<i64>, Vec<i64>) =
            changed.into_iter().map(|(_, before, after)| (before, after)).unzip();
        parts.extend(self.contribution(side, &columns, &gone, &counts_before)?);
        parts.extend(self.contribution(side, &columns, &weights, &counts_after)?);
        Ok(parts)
    }

    /// What rows of a side contribute by themselves when they have these numbers of matches.
    fn contribution(&self, side: usize, rows: &[ArrayRef], weights: &[i64], counts: &[i64]) -> Result<Option<Delta>> {
        let own = &self.sides[side];
        let shown: Vec<usize> = (0..counts.len())
            .filter(|&row| match own.shows {
                Own::Never => false,
                Own::OuterWithoutMatch | Own::WithoutMatch => counts[row] == 0,
                Own::WithMatch => counts[row] > 0,
                Own::Mark => true,
            })
            .collect();
        if shown.is_empty() {
            return Ok(None);
        }
        let mut columns: Vec<ArrayRef> = rows.iter().take(own.width).cloned().collect();
        if shown.len() < counts.len() {
            let positions: UInt32Array = shown.iter().map(|&row| u32::try_from(row).ok()).collect();
            columns = columns.iter().map(|column| Ok(take(column, &positions, None)?)).collect::<Result<_>>()?;
        }
        match own.shows {
            Own::OuterWithoutMatch => {
                let first = if side == LEFT { own.width } else { 0 };
                let missing: Vec<ArrayRef> = (first..first + self.sides[1 - side].width)
                    .map(|column| nulls(&self.schema, column, shown.len()))
                    .collect();
                columns = if side == LEFT { [columns, missing] } else { [missing, columns] }.concat();
            }
            Own::Mark => {
                let mark: BooleanArray = shown.iter().map(|&row| Some(counts[row] > 0)).collect();
                columns.push(Arc::new(mark));
            }
            _ => {}
        }
        let weights = shown.iter().map(|&row| weights[row]).collect();
        Ok(Some(Delta::new(with_rows(&self.schema, columns, shown.len())?, weights)))
    }
}

impl Operator for Join {
    fn step(&mut self, inputs: &[&Delta], context: &mut StepContext) -> Result<Delta> {
        let &[left, right] = inputs else {
            return Err(DataFusionError::Internal("a join has two inputs".to_owned()));
        };
        let deltas = [left, right];
        let before = [LEFT, RIGHT].map(|side| context.arrangements.view(self.sides[side].rows));
        let keys = [LEFT, RIGHT].map(|side| self.sides[side].key_of(deltas[side].batch()));
        let mut tallies = deltas.map(|delta| Tally { new: vec![0; delta.len()], moved: Vec::new() });
        let mut parts = Vec::new();
        for mut pairs in self.new_pairs(deltas, before, &keys)? {
            parts.extend(self.meet(&mut pairs, context)?);
            for (side, tally) in tallies.iter_mut().enumerate() {
                if self.sides[side].shows != Own::Never {
                    pairs.count(side, tally);
                }
            }
        }
        for (side, tally) in tallies.into_iter().enumerate() {
            if self.sides[side].shows != Own::Never {
                self.sides[side].counts.forget(before[side].gone());
                parts.extend(self.own_change(side, deltas[side], &keys[side], before[side], tally)?);
            }
        }
        Delta::concat(&self.schema, &parts)?.consolidate()
    }

    fn save(&self, state: &mut StateWriter) -> Result<()> {
        self.sides.iter().try_for_each(|side| side.counts.save(state))
    }

    fn load(&mut self, state: &mut StateReader) -> Result<()> {
        self.sides.iter_mut().try_for_each(|side| side.counts.load(state))
    }

    fn held(&self) -> Held {
        let counts: usize = self.sides.iter().map(|side| side.counts.0.len()).sum();
        Held { rows: counts, bytes: self.sides.iter().map(|side| side.counts.0.allocation_size()).sum() }
    }

    fn describe(&self) -> String {
        self.text.clone()
    }
}

impl Counts {
    fn save(&self, state: &mut StateWriter) -> Result<()> {
        let mut counts: Vec<(RowId, i64)> = self.0.iter().map(|(&row, &count)| (row, count)).collect();
        counts.sort_unstable();
        state.rows(saved::batch([
            ("row", saved::numbers(counts.iter().map(|&(row, _)| row.cast_signed()))),
            ("count", saved::numbers(counts.iter().map(|&(_, count)| count))),
        ])?);
        Ok(())
    }

    fn load(&mut self, state: &mut StateReader) -> Result<()> {
        let held = state.rows()?;
        let rows = saved::numbers_of(&held, 0)?.into_iter().map(i64::cast_unsigned);
        self.0 = rows.zip(saved::numbers_of(&held, 1)?).collect();
        Ok(())
    }
}

impl Side {
    fn key_of(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.key.iter().map(|&column| Arc::clone(rows.column(column))).collect()
    }
}

impl Counts {
    fn set(&mut self, row: RowId, count: i64) {
        if count == 0 {
            self.0.remove(&row);
        } else {
            self.0.insert(row, count);
        }
    }

    fn forget(&mut self, gone: &[RowId]) {
        if self.0.is_empty() {
            return;
        }
        for row in gone {
            self.0.remove(row);
        }
    }

    /// Moves numbers; returns those that left or reached zero, before and after, by row.
    fn shift(&mut self, mut moved: Vec<(RowId, i64)>) -> Result<Vec<(RowId, i64, i64)>> {
        moved.sort_unstable_by_key(|&(row, _)| row);
        let mut changed = Vec::new();
        for group in moved.chunk_by(|one, next| one.0 == next.0) {
            let Some(&(row, _)) = group.first() else { continue };
            let before = self.0.get(&row).copied().unwrap_or(0);
            let after = before + group.iter().map(|&(_, weight)| weight).sum::<i64>();
            if after < 0 {
                return Err(DataFusionError::Internal("a joined row has fewer than no matches".to_owned()));
            }
            self.set(row, after);
            if (before == 0) != (after == 0) {
                changed.push((row, before, after));
            }
        }
        Ok(changed)
    }
}

impl Pairs<'_> {
    fn len(&self) -> usize {
        self.picked[LEFT].len()
    }

    fn is_empty(&self) -> bool {
        self.picked[LEFT].is_empty()
    }

    fn keep(&mut self, mask: &BooleanArray) {
        for picked in &mut self.picked {
            let mut holds = mask.iter();
            picked.retain(|_| holds.next().flatten() == Some(true));
        }
    }

    /// The output's columns of a side.
    fn columns(&self, side: usize, of: &Side) -> Result<Vec<ArrayRef>> {
        let picked = &self.picked[side];
        match self.rows[side] {
            Rows::Before(arranged) => arranged.gather(of.width, picked),
            Rows::New(delta) => {
                let columns = delta.batch().columns().iter().take(of.width);
                if picked.len() == delta.len() && (0..).zip(picked).all(|(row, &picked)| row == picked) {
                    return Ok(columns.cloned().collect());
                }
                let rows: UInt32Array = picked.iter().map(|&row| u32::try_from(row).ok()).collect();
                columns.map(|column| Ok(take(column, &rows, None)?)).collect()
            }
        }
    }

    fn weights_of(&self, side: usize) -> Vec<i64> {
        let picked = &self.picked[side];
        match self.rows[side] {
            Rows::Before(arranged) => arranged.weights(picked.iter().copied()),
            Rows::New(delta) => picked.iter().map(|&row| delta.weights()[position(row)]).collect(),
        }
    }

    fn weights(&self) -> Vec<i64> {
        self.weights_of(LEFT).iter().zip(self.weights_of(RIGHT)).map(|(left, right)| left * right).collect()
    }

    /// Adds the matches of a side's rows.
    fn count(&self, side: usize, tally: &mut Tally) {
        let matches = self.picked[side].iter().zip(self.weights_of(1 - side));
        match self.rows[side] {
            Rows::New(_) => matches.for_each(|(&row, weight)| tally.new[position(row)] += weight),
            Rows::Before(_) => tally.moved.extend(matches.map(|(&row, weight)| (row, weight))),
        }
    }
}

fn position(row: u64) -> usize {
    usize::try_from(row).expect("a delta's rows fit in memory")
}
