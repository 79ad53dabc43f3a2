//! A window's plan node to its operator.

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::logical_plan::Window as WindowPlan;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_planner::create_window_expr;

use crate::plan::as_written;
use crate::state::NullKeys;

use super::arranged::{Request, Wanted};
use super::columns::Columns;
use super::compile::{Compiler, Problem, column_index};
use super::expression::row_schema;
use super::recipe::Recipe;
use super::retention::Finals;
use super::window::{RowOrder, Window};

/// Appends window functions that share their PARTITION BY and ORDER BY.
pub(super) fn build(compiler: &mut Compiler, plan: &WindowPlan) -> Result<usize, Problem> {
    let (input, calls) = compiler.input(&plan.input, plan.window_expr.clone())?;
    let width = plan.input.schema().fields().len();
    let mut columns = Columns::of(input);
    let calls: Vec<Expr> = calls.into_iter().map(|call| over_columns(call, &mut columns)).collect::<Result<_, _>>()?;
    let input = columns.append(compiler)?;
    let first = calls.first().and_then(window_function).ok_or_else(no_window)?;
    let place = |key: &Expr| column_index(key, &input.schema).ok_or_else(no_window);
    let partition = first.params.partition_by.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let sort = first
        .params
        .order_by
        .iter()
        .map(|sort| {
            let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
            Ok((place(&sort.expr)?, options))
        })
        .collect::<Result<Vec<_>, DataFusionError>>()?;
    let mut compiled = Vec::new();
    for (call, written) in calls.iter().zip(&plan.window_expr) {
        let function = window_function(call).ok_or_else(no_window)?;
        if function.params.partition_by != first.params.partition_by
            || function.params.order_by != first.params.order_by
        {
            return Err(
                DataFusionError::Internal("window functions of one node are in several orders".to_owned()).into()
            );
        }
        let text = match as_written(written) {
            Expr::Alias(alias) => alias.expr.human_display().to_string(),
            other => other.human_display().to_string(),
        };
        let name = function.fun.name();
        compiler.recompute(format!("`{name}(…) OVER` is computed over its whole partition"));
        let props = ExecutionProps::new();
        let expression = create_window_expr(call, &input.schema, &props, &PhysicalPlanningContext::default())?;
        compiled.push((expression, text));
    }
    let rows = row_schema(&input.schema);
    let schema = row_schema(&plan.schema);
    let names: Vec<String> = first.params.partition_by.iter().map(|key| key.human_display().to_string()).collect();
    let results: Vec<&str> = schema.fields().iter().skip(width).map(|field| field.name().as_str()).collect();
    let by = if names.is_empty() { "over all rows".to_owned() } else { format!("by {}", names.join(", ")) };
    let looked_up = compiler.arranged(Request {
        node: input.node,
        key: partition.clone(),
        nulls: NullKeys::Equal,
        wanted: Wanted::Values,
    });
    let operator = Window {
        rows: looked_up,
        partition: partition.clone(),
        calls: compiled,
        order: RowOrder::new(&rows, partition, &sort)?,
        width,
        partitions: names.join(", "),
        schema: Arc::clone(&schema),
        text: format!("window {by}: recompute {}", results.join(", ")),
        finals: Finals::default(),
    };
    let recipe = Recipe::new(format!("window {calls:?}"));
    Ok(compiler.push_looking_up(Box::new(operator), vec![input.node], vec![looked_up], &schema, recipe))
}

/// The call with a column in place of each expression.
fn over_columns(call: Expr, columns: &mut Columns) -> Result<Expr, DataFusionError> {
    let replaced = call.transform_up(|part| {
        let Expr::WindowFunction(mut call) = part else { return Ok(Transformed::no(part)) };
        let params = &mut call.params;
        let sorted = params.order_by.iter_mut().map(|sort| &mut sort.expr);
        for expression in params.partition_by.iter_mut().chain(sorted) {
            *expression = columns.column(expression);
        }
        let filter = params.filter.iter_mut().map(|filter| filter.as_mut());
        for expression in params.args.iter_mut().chain(filter) {
            *expression = columns.column_of(expression);
        }
        Ok(Transformed::yes(Expr::WindowFunction(call)))
    })?;
    Ok(replaced.data)
}

fn window_function(expression: &Expr) -> Option<&WindowFunction> {
    match expression {
        Expr::WindowFunction(function) => Some(function),
        Expr::Alias(alias) => window_function(&alias.expr),
        _ => None,
    }
}

fn no_window() -> DataFusionError {
    DataFusionError::Internal("a window without functions".to_owned())
}
