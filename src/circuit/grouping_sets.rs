//! GROUPING SETS, CUBE and ROLLUP: one aggregation for each set, one after the other.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Aggregate as AggregatePlan, Expr, GroupingSet};

use crate::plan::Refusal;

use super::aggregate_plan;
use super::columns::Columns;
use super::compile::{Compiler, Problem};
use super::expression::row_schema;
use super::map::{Map, Output, Place};
use super::recipe::Recipe;
use super::union::Union;

/// Appends an aggregation by several sets of columns. Its rows have all columns, null where a set leaves one out, the number of
/// the set as DataFusion computes it for `grouping()`, and the results.
pub(super) fn build(compiler: &mut Compiler, aggregate: &AggregatePlan, sets: &GroupingSet) -> Result<usize, Problem> {
    let keys: Vec<Expr> = sets.distinct_expr().into_iter().cloned().collect();
    let shown = shown(sets, &keys)?;
    let all = keys.iter().chain(&aggregate.aggr_expr).cloned().collect();
    let (input, mut expressions) = compiler.input(&aggregate.input, all)?;
    let calls = expressions.split_off(keys.len());
    let mut columns = Columns::of(input);
    let expressions: Vec<Expr> = expressions.iter().map(|key| columns.column(key)).collect();
    let calls = calls.into_iter().map(|call| over_columns(call, &mut columns)).collect::<Result<Vec<_>, _>>()?;
    let input = columns.append(compiler)?;
    let schema = row_schema(&aggregate.schema);
    let results = || schema.fields().iter().skip(keys.len() + 1);
    let mut nodes = Vec::new();
    for (position, set) in shown.iter().enumerate() {
        let columns: Vec<usize> = (0..keys.len()).filter(|&column| set.get(column) == Some(&true)).collect();
        let groups: Vec<Expr> = columns.iter().filter_map(|&column| expressions.get(column).cloned()).collect();
        let fields: Vec<Arc<Field>> =
            columns.iter().map(|&column| Arc::clone(&schema.fields()[column])).chain(results().cloned()).collect();
        let node = aggregate_plan::build(compiler, &input, &groups, &calls, &Arc::new(Schema::new(fields)))?;
        let earlier = shown.iter().take(position).filter(|&other| other == set).count();
        let number = set_number(set, earlier, schema.field(keys.len()).data_type())?;
        let mut next = 0_usize;
        let mut places: Vec<Place> = Vec::new();
        for (column, &there) in set.iter().enumerate() {
            if there {
                places.push(Place::Column(next));
                next += 1;
            } else {
                places.push(Place::Value(ScalarValue::try_from(schema.field(column).data_type())?));
            }
        }
        places.push(Place::Value(number));
        places.extend((next..next + calls.len()).map(Place::Column));
        let operator = Map { predicate: None, output: Output::Placed(places), schema: Arc::clone(&schema) };
        nodes.push(compiler.push_map(operator, vec![node]));
    }
    let operator = Union { schema: Arc::clone(&schema) };
    Ok(compiler.push(Box::new(operator), nodes, &schema, Recipe::new("union all")))
}

/// The call with a column in place of each expression.
fn over_columns(call: Expr, columns: &mut Columns) -> Result<Expr, DataFusionError> {
    let replaced = call.transform_up(|part| {
        let Expr::AggregateFunction(mut call) = part else { return Ok(Transformed::no(part)) };
        let params = &mut call.params;
        for sort in &mut params.order_by {
            sort.expr = columns.column(&sort.expr);
        }
        let filter = params.filter.iter_mut().map(|filter| filter.as_mut());
        for expression in params.args.iter_mut().chain(filter) {
            *expression = columns.column_of(expression);
        }
        Ok(Transformed::yes(Expr::AggregateFunction(call)))
    })?;
    Ok(replaced.data)
}

/// For each set, which of the columns it has.
fn shown(sets: &GroupingSet, keys: &[Expr]) -> Result<Vec<Vec<bool>>, Problem> {
    let count = match sets {
        GroupingSet::Rollup(columns) => columns.len().saturating_add(1),
        GroupingSet::Cube(columns) => {
            u32::try_from(columns.len()).ok().and_then(|n| 2_usize.checked_pow(n)).unwrap_or(usize::MAX)
        }
        GroupingSet::GroupingSets(sets) => sets.len(),
    };
    if count > SETS_MAX {
        return Err(Refusal::new(
            format!("these are more than {SETS_MAX} grouping sets, and each is kept up to date by itself"),
            "name the sets that are needed: `GROUPING SETS ((a, b), (a), ())`",
            "grouping sets|rollup|cube|group by",
        )
        .into());
    }
    Ok(match sets {
        GroupingSet::Rollup(_) => {
            (0..count).map(|length| (0..keys.len()).map(|column| column < length).collect()).collect()
        }
        GroupingSet::Cube(_) => {
            (0..count).map(|mask| (0..keys.len()).map(|column| mask >> column & 1 == 1).collect()).collect()
        }
        GroupingSet::GroupingSets(sets) => {
            sets.iter().map(|set| keys.iter().map(|key| set.contains(key)).collect()).collect()
        }
    })
}

/// A bit a column, the first one highest, 1 where the set leaves it out; above them how many equal sets stand before.
fn set_number(set: &[bool], earlier: usize, kind: &DataType) -> Result<ScalarValue, DataFusionError> {
    let bits = set.iter().fold(0_u64, |bits, &there| bits << 1 | u64::from(!there));
    let repeated = u64::try_from(earlier).unwrap_or(u64::MAX).checked_shl(u32::try_from(set.len()).unwrap_or(u32::MAX));
    ScalarValue::UInt64(Some(bits | repeated.unwrap_or(0))).cast_to(kind)
}

/// Each set is an operator of its own.
const SETS_MAX: usize = 256;
