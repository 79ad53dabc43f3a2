//! Joins on equal keys, with an optional further condition.
//!
//! Δ(L ⋈ R) = L_before ⋈ ΔR + ΔL ⋈ R_after, by look-ups of the delta's keys in the other side's arrangement. A side whose
//! rows show whether they have a match (outer, semi, anti, mark) keeps beside each row the number of its matches; when a
//! delta of the other side moves that number from zero or to zero, the row's own contribution changes with it.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::JoinType;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::{DataFusionError, Result};

use crate::state::{Arrangement, Delta, Match, RowId, with_rows};

use super::expression::{Compiled, all_true, evaluate_apart, nulls};
use super::{Held, Keeps, Operator, StepContext};

/// A join; see the module.
pub(crate) struct Join {
    kind: JoinType,
    sides: [Side; 2],
    condition: Option<Compiled>,
    pair_schema: SchemaRef,
    schema: SchemaRef,
    text: String,
}

/// One input of a join.
pub(crate) struct Side {
    /// Its rows, by join key.
    pub(crate) rows: Arrangement,
    /// How many of the columns belong to the join's output; the rest are computed keys.
    pub(crate) width: usize,
}

/// What a row of a side contributes by itself, depending on whether it has a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
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

const LEFT: usize = 0;
const RIGHT: usize = 1;

impl Join {
    /// A join of two sides; `condition` is compiled over the left side's columns followed by the right side's.
    pub(crate) fn new(
        kind: JoinType,
        sides: [Side; 2],
        condition: Option<Compiled>,
        pair_schema: SchemaRef,
        schema: SchemaRef,
        text: String,
    ) -> Self {
        Self { kind, sides, condition, pair_schema, schema, text }
    }

    fn own(&self, side: usize) -> Own {
        match (self.kind, side) {
            (JoinType::Left | JoinType::Full, LEFT) | (JoinType::Right | JoinType::Full, RIGHT) => {
                Own::OuterWithoutMatch
            }
            (JoinType::LeftAnti, LEFT) | (JoinType::RightAnti, RIGHT) => Own::WithoutMatch,
            (JoinType::LeftSemi, LEFT) | (JoinType::RightSemi, RIGHT) => Own::WithMatch,
            (JoinType::LeftMark, LEFT) | (JoinType::RightMark, RIGHT) => Own::Mark,
            _ => Own::Never,
        }
    }

    fn shows_pairs(&self) -> bool {
        matches!(self.kind, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
    }

    /// Applies the delta of one side against what the other holds now, then stores it.
    fn half(&mut self, side: usize, delta: &Delta, context: &mut StepContext, parts: &mut Vec<Delta>) -> Result<()> {
        if delta.is_empty() {
            return Ok(());
        }
        let other = 1 - side;
        let keys: Vec<ArrayRef> =
            self.sides[side].rows.key().iter().map(|&column| Arc::clone(delta.batch().column(column))).collect();
        let matches = self.sides[other].rows.probe(&keys, delta.len())?;
        let (matches, pairs) = self.pairs(side, delta, matches, context)?;
        if self.shows_pairs() && !matches.is_empty() {
            let weights = self.pair_weights(side, delta, &matches);
            parts.push(Delta::new(self.relabel_pairs(pairs)?, weights));
        }
        if self.own(other) != Own::Never {
            self.move_counts(other, delta, &matches, parts)?;
        }
        let counts = self.own_counts(side, other, delta, &matches);
        if let Some(counts) = &counts {
            parts.extend(self.contribution(side, delta.batch(), delta.weights(), counts)?);
        }
        self.sides[side].rows.apply(delta, counts.as_deref())
    }

    /// The matches that satisfy the condition, with the joined columns. A pair that the condition fails on is an error row,
    /// and no match.
    fn pairs(
        &self,
        side: usize,
        delta: &Delta,
        matches: Vec<Match>,
        context: &mut StepContext,
    ) -> Result<(Vec<Match>, RecordBatch)> {
        if matches.is_empty() || (self.condition.is_none() && !self.shows_pairs()) {
            return Ok((matches, RecordBatch::new_empty(Arc::clone(&self.pair_schema))));
        }
        let batch = self.pair_batch(side, delta, &matches)?;
        let Some(condition) = &self.condition else { return Ok((matches, batch)) };
        match condition.evaluate(&batch) {
            Ok(mask) => keep(matches, batch, as_boolean_array(&mask)?),
            Err(_) => {
                let pairs = Delta::new(batch, self.pair_weights(side, delta, &matches));
                let (good, values) = evaluate_apart(std::slice::from_ref(condition), &pairs, context)?;
                let (matches, batch) = keep(matches, pairs.batch().clone(), &good)?;
                match values.first() {
                    Some(mask) => keep(matches, batch, as_boolean_array(mask)?),
                    None => Ok((matches, batch)),
                }
            }
        }
    }

    fn pair_weights(&self, side: usize, delta: &Delta, matches: &[Match]) -> Vec<i64> {
        let stored = &self.sides[1 - side].rows;
        matches.iter().map(|found| delta.weights()[found.probe as usize] * stored.weight(found.stored)).collect()
    }

    fn pair_batch(&self, side: usize, delta: &Delta, matches: &[Match]) -> Result<RecordBatch> {
        let other = 1 - side;
        let probes: UInt32Array = matches.iter().map(|found| Some(found.probe)).collect();
        let stored: Vec<RowId> = matches.iter().map(|found| found.stored).collect();
        let same = matches.len() == delta.len() && (0_u32..).zip(matches).all(|(row, found)| row == found.probe);
        let mine: Vec<ArrayRef> = delta.batch().columns()[..self.sides[side].width]
            .iter()
            .map(|column| if same { Ok(Arc::clone(column)) } else { Ok(take(column, &probes, None)?) })
            .collect::<Result<_>>()?;
        let theirs: Vec<ArrayRef> = (0..self.sides[other].width)
            .map(|column| self.sides[other].rows.gather_column(column, &stored))
            .collect::<Result<_>>()?;
        let columns = if side == LEFT { [mine, theirs] } else { [theirs, mine] }.concat();
        with_rows(&self.pair_schema, columns, matches.len())
    }

    fn relabel_pairs(&self, pairs: RecordBatch) -> Result<RecordBatch> {
        with_rows(&self.schema, pairs.columns().to_vec(), pairs.num_rows())
    }

    /// How many matches each row of the delta has now; none if the side does not show it.
    fn own_counts(&self, side: usize, other: usize, delta: &Delta, matches: &[Match]) -> Option<Vec<i64>> {
        (self.own(side) != Own::Never).then(|| {
            let mut counts = vec![0; delta.len()];
            for found in matches {
                counts[found.probe as usize] += self.sides[other].rows.weight(found.stored);
            }
            counts
        })
    }

    /// Moves the match counts of the stored rows of `side` by a delta of the other side.
    fn move_counts(&mut self, side: usize, delta: &Delta, matches: &[Match], parts: &mut Vec<Delta>) -> Result<()> {
        let mut moves: Vec<(RowId, i64)> =
            matches.iter().map(|found| (found.stored, delta.weights()[found.probe as usize])).collect();
        moves.sort_unstable_by_key(|&(row, _)| row);
        let mut changed: Vec<(RowId, i64, i64)> = Vec::new();
        for group in moves.chunk_by(|left, right| left.0 == right.0) {
            let Some(&(row, _)) = group.first() else { continue };
            let before = self.sides[side].rows.count(row);
            let after = before + group.iter().map(|&(_, weight)| weight).sum::<i64>();
            if after < 0 {
                return Err(DataFusionError::Internal("a joined row has fewer than no matches".to_owned()));
            }
            self.sides[side].rows.set_count(row, after);
            if (before == 0) != (after == 0) {
                changed.push((row, before, after));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let rows: Vec<RowId> = changed.iter().map(|&(row, _, _)| row).collect();
        let batch = self.sides[side].rows.gather(&rows)?;
        let weights: Vec<i64> = rows.iter().map(|&row| self.sides[side].rows.weight(row)).collect();
        let gone: Vec<i64> = weights.iter().map(|weight| -weight).collect();
        let before: Vec<i64> = changed.iter().map(|&(_, before, _)| before).collect();
        let after: Vec<i64> = changed.iter().map(|&(_, _, after)| after).collect();
        parts.extend(self.contribution(side, &batch, &gone, &before)?);
        parts.extend(self.contribution(side, &batch, &weights, &after)?);
        Ok(())
    }

    /// What rows of a side contribute by themselves when they have these numbers of matches.
    fn contribution(&self, side: usize, rows: &RecordBatch, weights: &[i64], counts: &[i64]) -> Result<Option<Delta>> {
        let own = self.own(side);
        let shown: Vec<usize> = (0..counts.len())
            .filter(|&row| match own {
                Own::Never => false,
                Own::OuterWithoutMatch | Own::WithoutMatch => counts[row] == 0,
                Own::WithMatch => counts[row] > 0,
                Own::Mark => true,
            })
            .collect();
        if shown.is_empty() {
            return Ok(None);
        }
        let positions: UInt32Array = shown.iter().map(|&row| u32::try_from(row).ok()).collect();
        let mut columns: Vec<ArrayRef> = rows.columns()[..self.sides[side].width]
            .iter()
            .map(|column| Ok(take(column, &positions, None)?))
            .collect::<Result<_>>()?;
        match own {
            Own::OuterWithoutMatch => {
                let other = &self.sides[1 - side];
                let missing: Vec<ArrayRef> =
                    (0..other.width).map(|column| nulls(other.rows.schema(), column, shown.len())).collect();
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
        let [left, right] = inputs else {
            return Err(DataFusionError::Internal("a join has two inputs".to_owned()));
        };
        let mut parts = Vec::new();
        self.half(RIGHT, right, context, &mut parts)?;
        self.half(LEFT, left, context, &mut parts)?;
        Delta::concat(&self.schema, &parts)?.consolidate()
    }

    fn keeps(&self) -> Keeps {
        Keeps::Rows
    }

    fn held(&self) -> Held {
        Held {
            rows: self.sides.iter().map(|side| side.rows.rows()).sum(),
            bytes: self.sides.iter().map(|side| side.rows.bytes()).sum(),
        }
    }

    fn describe(&self) -> String {
        self.text.clone()
    }
}

/// The pairs for which the mask is true.
fn keep(matches: Vec<Match>, batch: RecordBatch, mask: &BooleanArray) -> Result<(Vec<Match>, RecordBatch)> {
    if all_true(mask) {
        return Ok((matches, batch));
    }
    let kept = matches.into_iter().zip(mask.iter()).filter(|&(_, holds)| holds == Some(true)).map(|(found, _)| found);
    Ok((kept.collect(), filter_record_batch(&batch, mask)?))
}
