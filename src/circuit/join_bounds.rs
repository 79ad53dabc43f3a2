//! What a join may forget, and what is known of its deltas to come.
//!
//! A held row can be forgotten once two things hold. Its own side can't take it back: no row goes there, or one of its columns
//! is below that side's bound. And no row to come of the other side matches it: a match would have to satisfy `f ≥ g`, where
//! `f` is a function of the held row and `g` one of a column that the other side bounds (an equality of the key, or a
//! comparison in the condition), and `f` is below what `g` makes of that bound. Outer, semi, anti and mark joins ask for no
//! more: what a held row contributes by itself changes with a match only, and the number of matches beside a row stays as it
//! is when one of them is forgotten, because that one doesn't go any more. Closed keys are as bounds: a row with a key that is closed
//! on its own side is not taken back, and one whose join key holds a key that is closed on the other side is not matched.
//!
//! A row to come of the output comes with a row to come of one side, or with a held row that a row to come of the other side
//! matches. So a side's bound of a column holds for the output, lowered to what such a match still allows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::{and, or};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::Operator as Infix;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr::{PhysicalExpr, utils::collect_columns};

use crate::state::with_rows;

use super::retention::{Bound, Closed, Finals, Forgetting, Outlook, each_with_each};
use super::rising::{Rising, never_fails};

/// What is needed to know of a side.
pub(super) struct SideOutlook<'a> {
    pub(super) outlook: &'a Outlook,
    /// The columns of the key.
    pub(super) key: &'a [usize],
    /// How many of the columns the join shows, and its condition sees.
    pub(super) width: usize,
}

/// When the rows that a join holds of a side can be forgotten.
#[derive(Debug)]
pub(super) struct Forgets {
    /// The columns of the side.
    schema: SchemaRef,
    /// No row of the side goes.
    grows_only: bool,
    /// Which rows of the side are final.
    own: Finals,
    /// Nothing comes of the other side.
    alone: bool,
    /// Functions of a row of the side that no row to come of the other side matches if they are below a bound.
    meets: Vec<(Arc<dyn PhysicalExpr>, Bound)>,
    /// Rows that satisfy one of these are matched by no row to come of the other side.
    closed: Vec<Closed>,
}

impl Default for Forgets {
    fn default() -> Self {
        Self {
            schema: Arc::new(Schema::empty()),
            grows_only: false,
            own: Finals::default(),
            alone: false,
            meets: Vec::new(),
            closed: Vec::new(),
        }
    }
}

impl Forgets {
    /// Whether it forgets at all.
    pub(super) fn possible(&self) -> bool {
        let unmatched = self.alone || !self.meets.is_empty() || !self.closed.is_empty();
        (self.grows_only || !self.own.is_empty()) && unmatched
    }

    /// Which of so many rows with these columns can be forgotten.
    pub(super) fn among(&self, rows: usize, columns: Vec<ArrayRef>, round: &Forgetting<'_>) -> Result<BooleanArray> {
        let rows = &with_rows(&self.schema, columns, rows)?;
        let all = || BooleanArray::from(vec![true; rows.num_rows()]);
        let final_here = match self.grows_only {
            true => all(),
            false => self.own.among(rows.num_rows(), rows.columns(), round)?,
        };
        if self.alone {
            return Ok(final_here);
        }
        // Where a function has no value for some row, the rows stay.
        let met = self.meets.iter().filter_map(|(function, bound)| {
            let values = function.evaluate(rows).and_then(|values| values.into_array(rows.num_rows()));
            Some((values.ok()?, bound))
        });
        let below = round.below_any(rows.num_rows(), met)?;
        let unmatched = self.closed.iter().try_fold(below, |any, closed| -> Result<BooleanArray> {
            Ok(or(&any, &round.closed(rows.num_rows(), rows.columns(), closed)?)?)
        })?;
        Ok(and(&final_here, &unmatched)?)
    }

    /// The bound of one of the side's columns in the rows to come of the output.
    fn shown(&self, column: usize, own: &Bound, schema: &SchemaRef) -> Option<Bound> {
        if self.alone {
            return Some(own.clone());
        }
        self.meets.iter().find_map(|(function, bound)| {
            let function = Rising::of(function, schema).filter(|function| function.column() == column)?;
            let bound = match function.is_column() {
                true => bound.clone(),
                false => Bound::Before(Arc::new(bound.clone()), function.distance()?),
            };
            Some(own.or_less(&bound))
        })
    }

    /// What no row to come of the output satisfies, of the side's columns that the join shows.
    pub(super) fn closed_keys(&self, side: &SideOutlook<'_>) -> Vec<Closed> {
        let shown = |column: usize| (column < side.width).then_some(column);
        let closed = match self.alone {
            true => side.outlook.closed.clone(),
            false => each_with_each(&side.outlook.closed, &self.closed),
        };
        closed.iter().filter_map(|closed| closed.through(&shown)).collect()
    }

    /// The bounds of the side's columns that the join shows, in the rows to come of the output.
    pub(super) fn bounds(&self, side: &SideOutlook<'_>) -> Vec<(usize, Bound)> {
        let shown = side.outlook.bounds.iter().filter(|&(&column, _)| column < side.width);
        shown.filter_map(|(&column, own)| Some((column, self.shown(column, own, &side.outlook.schema)?))).collect()
    }
}

/// What a join forgets of each side; whether its condition could say more if none of its parts could fail.
pub(super) fn forgets(
    sides: &[SideOutlook<'_>; 2],
    condition: Option<(&Arc<dyn PhysicalExpr>, &SchemaRef)>,
) -> ([Forgets; 2], bool) {
    let mut fails = false;
    let of = |side: usize| {
        let (mine, other) = (&sides[side], &sides[1 - side]);
        let keys = mine.key.iter().zip(other.key).filter_map(|(&column, paired)| {
            let name = mine.outlook.schema.field(column).name();
            let function: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, column));
            Some((function, other.outlook.bounds.get(paired)?.clone()))
        });
        let paired = |column: usize| {
            let place = other.key.iter().position(|&key| key == column)?;
            mine.key.get(place).copied()
        };
        let all: Vec<usize> = (0..mine.outlook.schema.fields().len()).collect();
        Forgets {
            schema: Arc::clone(&mine.outlook.schema),
            grows_only: mine.outlook.grows_only,
            own: mine.outlook.finals(&all),
            alone: other.outlook.still,
            meets: keys.collect(),
            closed: other.outlook.closed.iter().filter_map(|closed| closed.through(&paired)).collect(),
        }
    };
    let mut found = [of(0), of(1)];
    if let Some((condition, pairs)) = condition {
        let whole = never_fails(condition, pairs);
        for part in split_conjunction(condition) {
            for (side, forgets) in found.iter_mut().enumerate() {
                let met = meet(part, side, sides, pairs);
                fails |= met.is_some() && !whole;
                forgets.meets.extend(met.filter(|_| whole));
            }
        }
    }
    (found, fails)
}

/// Of a comparison `f ≥ g` (or `f > g`, `f = g`) between the sides, `f` over the rows of `side`, and what the other side's
/// bound makes of `g`.
fn meet(
    part: &Arc<dyn PhysicalExpr>,
    side: usize,
    sides: &[SideOutlook<'_>; 2],
    pairs: &SchemaRef,
) -> Option<(Arc<dyn PhysicalExpr>, Bound)> {
    let infix = part.downcast_ref::<BinaryExpr>()?;
    let orders: &[(&Arc<dyn PhysicalExpr>, &Arc<dyn PhysicalExpr>)] = match infix.op() {
        Infix::GtEq | Infix::Gt => &[(infix.left(), infix.right())],
        Infix::LtEq | Infix::Lt => &[(infix.right(), infix.left())],
        Infix::Eq => &[(infix.left(), infix.right()), (infix.right(), infix.left())],
        _ => return None,
    };
    let left = sides[0].width;
    let columns = |side: usize| if side == 0 { 0..left } else { left..pairs.fields().len() };
    let only_of = |expression: &Arc<dyn PhysicalExpr>, side: usize| {
        collect_columns(expression).iter().all(|column| columns(side).contains(&column.index()))
    };
    orders.iter().find_map(|&(upper, lower)| {
        if !only_of(upper, side) || !only_of(lower, 1 - side) {
            return None;
        }
        let lower = Rising::of(lower, pairs)?;
        let bound = sides[1 - side].outlook.bounds.get(&(lower.column() - columns(1 - side).start))?;
        let bound = if lower.is_column() { bound.clone() } else { Bound::Of(lower, Arc::new(bound.clone())) };
        Some((moved(upper, columns(side).start)?, bound))
    })
}

/// An expression over pairs as one over the rows of a side.
fn moved(expression: &Arc<dyn PhysicalExpr>, start: usize) -> Option<Arc<dyn PhysicalExpr>> {
    let moved = Arc::clone(expression).transform_up(|part| {
        let Some(column) = part.downcast_ref::<Column>() else { return Ok(Transformed::no(part)) };
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(column.name(), column.index() - start));
        Ok(Transformed::yes(column))
    });
    moved.ok().map(|moved| moved.data)
}
