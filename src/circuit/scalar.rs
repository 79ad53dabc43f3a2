//! Subqueries as values: each becomes one row, beside which every row of the input stands.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};

use super::compile::{Compiler, Input, Problem};
use super::expression::row_schema;
use super::join::{Construct, Written};
use super::join_plan::cross;
use super::recipe::Recipe;
use super::single::Single;

/// Whether an expression reads a subquery as a value.
pub(super) fn mentions(expression: &Expr) -> Result<bool, DataFusionError> {
    expression.exists(|part| Ok(matches!(part, Expr::ScalarSubquery(_))))
}

/// An input together with the values of the subqueries that `expressions` read, as further columns, which they then read
/// instead. A subquery that refers to the query around it is left as it is.
pub(super) fn joined(
    compiler: &mut Compiler,
    input: Input,
    expressions: Vec<Expr>,
) -> Result<(Input, Vec<Expr>), Problem> {
    let mut found: Vec<Subquery> = Vec::new();
    let rewritten = expressions
        .into_iter()
        .map(|expression| replace(expression, &mut found))
        .collect::<Result<Vec<_>, DataFusionError>>()?;
    let mut input = input;
    for (position, subquery) in found.iter().enumerate() {
        let value = value(compiler, &subquery.subquery, &value_name(position))?;
        let described = format!("join of the value of {}", text(&subquery.subquery));
        let written = Written { text: described, construct: Construct::Value };
        input = cross(compiler, &input, &value, written)?;
        compiler.recompute(format!(
            "every row that is compared with {} is looked at when its value changes",
            text(&subquery.subquery)
        ));
    }
    Ok((input, rewritten))
}

/// The subquery's one row, under a name of its own.
fn value(compiler: &mut Compiler, plan: &LogicalPlan, name: &str) -> Result<Input, Problem> {
    let node = compiler.build(plan)?;
    let field = plan
        .schema()
        .fields()
        .first()
        .ok_or_else(|| DataFusionError::Internal("a subquery as a value shows no column".to_owned()))?;
    let field = Arc::new(arrow::datatypes::Field::new(name, field.data_type().clone(), true));
    let schema = Arc::new(DFSchema::new_with_metadata(vec![(None, field)], std::collections::HashMap::new())?);
    let row = row_schema(&schema);
    let operator = Single::new(Arc::clone(&row), text(plan));
    let node = compiler.push(Box::new(operator), vec![node], &row, Recipe::new(format!("one row of {}", text(plan))));
    Ok(Input { node, schema })
}

/// What a subquery's value is called where no SQL is at hand: its column.
fn text(plan: &LogicalPlan) -> String {
    let name = plan.schema().fields().first().map_or("", |field| field.name().as_str());
    format!("the subquery `{name}`")
}

fn value_name(position: usize) -> String {
    format!("__value_of_{position}")
}

/// Replaces each uncorrelated subquery by the column of its value; equal ones share one.
fn replace(expression: Expr, found: &mut Vec<Subquery>) -> Result<Expr, DataFusionError> {
    let replaced = expression.transform_up(|part| {
        let Expr::ScalarSubquery(subquery) = &part else { return Ok(Transformed::no(part)) };
        if !subquery.outer_ref_columns.is_empty() {
            return Ok(Transformed::no(part));
        }
        let position = match found.iter().position(|known| known.subquery == subquery.subquery) {
            Some(position) => position,
            None => {
                found.push(subquery.clone());
                found.len() - 1
            }
        };
        Ok(Transformed::yes(Expr::Column(Column::new_unqualified(value_name(position)))))
    })?;
    Ok(replaced.data)
}
