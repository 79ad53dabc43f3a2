//! A join's plan node to operators.

use std::sync::Arc;

use datafusion::common::{Column, DFSchema, JoinType, NullEquality};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::logical_plan::Join as JoinPlan;
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlan, lit};

use crate::plan::Refusal;
use crate::state::NullKeys;

use super::arranged::{Request, Wanted};
use super::compile::{Compiler, Input, Problem, column_index, mentions_watermark, refuse_expression};
use super::expression::{Compiled, row_schema};
use super::join::{Construct, Counts, Join, Own, Side, Written};
use super::recipe::Recipe;

type Built<T> = Result<T, Problem>;

/// One side of a join as it is arranged: its rows, the columns of its key, and how many columns the join shows of it.
struct Keyed {
    input: Input,
    key: Vec<usize>,
    width: usize,
}

/// Appends a join.
pub(super) fn build(compiler: &mut Compiler, join: &JoinPlan) -> Built<usize> {
    if join.null_aware {
        return not_in(compiler, join);
    }
    let left = side(compiler, &join.left, join.on.iter().map(|(left, _)| left))?;
    let right = side(compiler, &join.right, join.on.iter().map(|(_, right)| right))?;
    let pairs = join.left.schema().join(join.right.schema())?;
    let (condition, after) = condition(join, &pairs)?;
    if join.on.is_empty() {
        compiler.recompute(every_row(join));
    }
    let on: Vec<String> =
        join.on.iter().map(|(left, right)| format!("{} = {}", left.human_display(), right.human_display())).collect();
    let kind = join.join_type.to_string().to_lowercase();
    let text =
        if on.is_empty() { format!("{kind} join of all rows") } else { format!("{kind} join on {}", on.join(" and ")) };
    let nulls = null_keys(join);
    let written = Written { text, construct: Construct::Join(join.join_type) };
    let node = push(compiler, join.join_type, [left, right], nulls, condition, &pairs, &join.schema, written)?;
    match after {
        None => Ok(node),
        Some(predicate) => {
            let input = Input { node, schema: Arc::clone(&join.schema) };
            compiler.filter_behind(input, predicate, &join.schema)
        }
    }
}

fn null_keys(join: &JoinPlan) -> NullKeys {
    match join.null_equality {
        NullEquality::NullEqualsNothing => NullKeys::Distinct,
        NullEquality::NullEqualsNull => NullKeys::Equal,
    }
}

#[expect(clippy::too_many_arguments, reason = "all that a join is made of, once")]
fn push(
    compiler: &mut Compiler,
    kind: JoinType,
    sides: [Keyed; 2],
    nulls: NullKeys,
    condition: Option<Compiled>,
    pairs: &DFSchema,
    schema: &DFSchema,
    written: Written,
) -> Built<usize> {
    let nodes = sides.iter().map(|side| side.input.node).collect();
    let keys: Vec<_> = sides.iter().map(|side| (side.key.clone(), side.width)).collect();
    let recipe = Recipe::new(format!("{kind} join {keys:?} {nulls:?} {}", condition.is_some())).with(&condition);
    let [left, right] = sides;
    let arrange = |side: Keyed, shows: Own, compiler: &mut Compiler| {
        let Keyed { input, key, width } = side;
        let wanted = if shows == Own::Never { Wanted::Values } else { Wanted::Rows };
        let rows = compiler.arranged(Request { node: input.node, key: key.clone(), nulls, wanted });
        Side { rows, key, width, shows, counts: Counts::default() }
    };
    let [shows_left, shows_right] = Own::of(kind);
    let sides = [arrange(left, shows_left, compiler), arrange(right, shows_right, compiler)];
    let uses = sides.iter().map(|side| side.rows).collect();
    let schema = row_schema(schema);
    let operator = Join::new(kind, sides, nulls, condition, row_schema(pairs), Arc::clone(&schema), written);
    Ok(compiler.push_looking_up(Box::new(operator), nodes, uses, &schema, recipe))
}

/// Every row of one input beside every row of the other, whose columns come second.
pub(super) fn cross(compiler: &mut Compiler, left: &Input, right: &Input, written: Written) -> Built<Input> {
    let schema = Arc::new(left.schema.join(&right.schema)?);
    let whole = |input: &Input| Keyed { input: input.clone(), key: Vec::new(), width: input.schema.fields().len() };
    let sides = [whole(left), whole(right)];
    let node = push(compiler, JoinType::Inner, sides, NullKeys::Equal, None, &schema, &schema, written)?;
    Ok(Input { node, schema })
}

/// `x NOT IN (SELECT y …)`, where a null is neither in nor out: no row if any `y` is null; otherwise the rows whose `x` is
/// none of them, and that with a null for `x` only if there is no `y` at all.
fn not_in(compiler: &mut Compiler, join: &JoinPlan) -> Built<usize> {
    let ([(asked, listed)], JoinType::LeftAnti, None) = (join.on.as_slice(), join.join_type, &join.filter) else {
        return Err(Refusal::new(
            "this `NOT IN (SELECT …)` can't be kept up to date",
            "write `NOT EXISTS (SELECT … WHERE …)`",
            "not in|in",
        )
        .into());
    };
    let left = side(compiler, &join.left, std::iter::once(asked))?;
    let right = side(compiler, &join.right, std::iter::once(listed))?;
    let key = |side: &Keyed| {
        let (qualifier, field) = side.input.schema.qualified_field(side.key.first().copied().unwrap_or(0));
        Expr::Column(Column::from((qualifier, field)))
    };
    let listed_key = key(&right);
    let nulls = count(lit(1_i64)).filter(listed_key.is_null()).build()?;
    let counted = compiler.aggregate_all(
        &right.input,
        &[("__listed".to_owned(), count(lit(1_i64))), ("__listed_nulls".to_owned(), nulls)],
    )?;
    let pairs = join.left.schema().join(join.right.schema())?;
    let asked_key = key(&left);
    // Its computed key stays beside each row: the condition behind needs it.
    let rows = Arc::clone(&left.input.schema);
    let left = Keyed { width: rows.fields().len(), ..left };
    let text = format!("leftanti join on {} = {}", asked.human_display(), listed.human_display());
    let written = Written { text, construct: Construct::NotIn };
    let unmatched = push(compiler, JoinType::LeftAnti, [left, right], null_keys(join), None, &pairs, &rows, written)?;
    let unmatched = Input { node: unmatched, schema: rows };
    let text = "whether the list has rows or nulls".to_owned();
    let written = Written { text, construct: Construct::NotIn };
    let both = cross(compiler, &unmatched, &counted, written)?;
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let out = asked_key.is_not_null().or(column("__listed").eq(lit(0_i64)));
    compiler.filter_behind(both, column("__listed_nulls").eq(lit(0_i64)).and(out), &join.schema)
}

/// The join's further condition; one that can't be compiled over pairs alone is a filter behind an inner join.
fn condition(join: &JoinPlan, pairs: &DFSchema) -> Built<(Option<Compiled>, Option<Expr>)> {
    let Some(condition) = &join.filter else { return Ok((None, None)) };
    let of_time = mentions_watermark(condition)?;
    if !of_time && !super::scalar::mentions(condition)? {
        refuse_expression(condition)?;
        return Ok((Some(Compiled::new(condition, pairs)?), None));
    }
    if join.join_type == JoinType::Inner {
        return Ok((None, Some(condition.clone())));
    }
    Err(if of_time {
        Refusal::new(
            "`watermark()` in the ON of an outer join can't be kept up to date yet",
            "compare with `watermark()` in a job or subquery of its own, and join its result",
            "watermark",
        )
    } else {
        Refusal::new(
            "a subquery as a value in the ON of an outer join can't be kept up to date yet",
            "compare with it in a job or subquery of its own, and join its result",
            "( select|select",
        )
    }
    .into())
}

/// One side of a join with its key as columns; computed keys are appended.
fn side<'a>(compiler: &mut Compiler, plan: &LogicalPlan, keys: impl Iterator<Item = &'a Expr>) -> Built<Keyed> {
    let (input, keys) = compiler.input(plan, keys.cloned().collect())?;
    let width = plan.schema().fields().len();
    let known: Option<Vec<usize>> = keys.iter().map(|key| column_index(key, &input.schema)).collect();
    if let Some(key) = known {
        return Ok(Keyed { input, key, width });
    }
    let first = input.schema.fields().len();
    let named: Vec<(String, Expr)> =
        keys.into_iter().enumerate().map(|(position, key)| (format!("__key_{position}"), key)).collect();
    let key = (first..first + named.len()).collect();
    Ok(Keyed { input: compiler.append(&input, &named)?, key, width })
}

/// Why a join without an equality is marked.
fn every_row(join: &JoinPlan) -> String {
    let name = |plan: &LogicalPlan| scanned(plan).map_or_else(|| "one side".to_owned(), |name| format!("`{name}`"));
    let (left, right) = (name(&join.left), name(&join.right));
    let one = |plan: &LogicalPlan| plan.max_rows() == Some(1);
    match (one(&join.left), one(&join.right)) {
        (_, true) => format!("every row of {left} is looked at when the one row that it is joined with changes"),
        (true, _) => format!("every row of {right} is looked at when the one row that it is joined with changes"),
        _ => format!(
            "a join without an equality: each changed row of {left} meets every row of {right}, and the reverse"
        ),
    }
}

/// The name of the first table that a plan shows or scans.
fn scanned(plan: &LogicalPlan) -> Option<&str> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan.table_name.table()),
        LogicalPlan::SubqueryAlias(alias) => Some(alias.alias.table()),
        other => other.inputs().into_iter().find_map(scanned),
    }
}
