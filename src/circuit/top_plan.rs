//! ORDER BY with LIMIT to operators.

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::logical_expr::logical_plan::{FetchType, Limit, SkipType, Sort as SortPlan};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::plan::Refusal;

use super::compile::{Compiler, Problem, column_index};
use super::expression::row_schema;
use super::recipe::Recipe;
use super::top::Top;

type Built<T> = Result<T, Problem>;

/// Appends a LIMIT over an ordered input.
pub(super) fn limit(compiler: &mut Compiler, limit: &Limit) -> Built<usize> {
    let (SkipType::Literal(offset), FetchType::Literal(count)) = (limit.get_skip_type()?, limit.get_fetch_type()?)
    else {
        return Err(Refusal::new("LIMIT must be a number", "write the number itself", "limit|offset|fetch").into());
    };
    match limit.input.as_ref() {
        LogicalPlan::Sort(sort) => {
            let end = match (count.map(|count| offset.saturating_add(count)), sort.fetch) {
                (Some(end), Some(fetch)) => Some(end.min(fetch)),
                (end, fetch) => end.or(fetch),
            };
            slice(compiler, sort, offset, end.map(|end| end.saturating_sub(offset)))
        }
        other if offset == 0 && other.max_rows().is_some_and(|rows| count.is_some_and(|count| rows <= count)) => {
            compiler.build(other)
        }
        _ => Err(unordered().into()),
    }
}

/// Which rows LIMIT keeps depends on their order.
fn unordered() -> Refusal {
    Refusal::new(
        "which rows LIMIT keeps depends on their order",
        "say the order: `ORDER BY … LIMIT …`",
        "limit|offset|fetch|top",
    )
}

/// Appends the rows of a sorted input from `offset` on, at most `limit`; the order itself is not kept.
pub(super) fn slice(compiler: &mut Compiler, sort: &SortPlan, offset: usize, limit: Option<usize>) -> Built<usize> {
    let keys: Vec<Expr> = sort.expr.iter().map(|sort| sort.expr.clone()).collect();
    let (input, keys) = compiler.input(&sort.input, keys)?;
    let mut columns: Vec<Option<usize>> = keys.iter().map(|key| column_index(key, &input.schema)).collect();
    let mut next = input.schema.fields().len();
    let mut computed: Vec<(String, Expr)> = Vec::new();
    for (column, key) in columns.iter_mut().zip(&keys) {
        if column.is_none() {
            computed.push((format!("__order_{}", computed.len()), key.clone()));
            *column = Some(next);
            next += 1;
        }
    }
    let input = if computed.is_empty() { input } else { compiler.append(&input, &computed)? };
    let order: Vec<(usize, SortOptions)> = columns
        .into_iter()
        .flatten()
        .zip(&sort.expr)
        .map(|(column, sort)| (column, SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first }))
        .collect();
    let schema = row_schema(sort.input.schema());
    let names: Vec<String> = sort.expr.iter().map(|sort| sort.expr.human_display().to_string()).collect();
    let slice = match (limit, offset) {
        (Some(limit), 0) => format!("the first {limit} rows"),
        (Some(limit), _) => format!("{limit} rows after the first {offset}"),
        (None, _) => format!("all but the first {offset} rows"),
    };
    let text = format!("{slice} by {}", names.join(", "));
    let operator = Top::new(&row_schema(&input.schema), &order, offset, limit, Arc::clone(&schema), text)?;
    let recipe = Recipe::new(format!("slice {offset} {limit:?} by {order:?}"));
    Ok(compiler.push(Box::new(operator), vec![input.node], &schema, recipe))
}
