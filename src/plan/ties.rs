//! Ties in the ORDER BY of an aggregate, broken the same way in a circuit and in a batch.
//!
//! `first_value(x ORDER BY t)` leaves open which of two rows with one `t` comes first, and every engine, batch size and
//! restart would decide differently. The rule appends to each ORDER BY the other columns that the same aggregation uses,
//! in the order of its input. Calls with the same ORDER BY therefore pick the same row: `first_value(a ORDER BY t)` and
//! `first_value(b ORDER BY t)` never mix two. A call whose ORDER BY another continues takes the other's first, so that both
//! can be served by one order of the rows, as DataFusion demands. It runs as an analyzer rule: before columns are pruned.

use std::collections::HashSet;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

/// The aggregates whose result depends on the order of their rows.
pub(crate) const ORDER_SENSITIVE: [&str; 5] = ["array_agg", "first_value", "last_value", "nth_value", "string_agg"];

/// The analyzer rule.
#[derive(Debug)]
pub(super) struct BreakTies;

impl AnalyzerRule for BreakTies {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Aggregate(aggregate) => break_ties(aggregate),
            other => Ok(Transformed::no(other)),
        })
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &'static str {
        "break_ties"
    }
}

fn break_ties(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    if !aggregate.aggr_expr.iter().any(|expression| ordered_call(expression).is_some()) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let used = used_columns(&aggregate)?;
    let orders: Vec<Vec<Sort>> =
        aggregate.aggr_expr.iter().filter_map(ordered_call).map(|call| call.params.order_by.clone()).collect();
    let plan = LogicalPlan::Aggregate(aggregate);
    let names = NamePreserver::new(&plan);
    let LogicalPlan::Aggregate(aggregate) = plan else { unreachable!("made above") };
    let schema = aggregate.schema;
    let aggr_expr = aggregate
        .aggr_expr
        .into_iter()
        .map(|expression| {
            let name = names.save(&expression);
            let ordered = expression.transform_up(|part| {
                Ok(match part {
                    Expr::AggregateFunction(call) if is_ordered(&call) => {
                        Transformed::yes(append(call, &orders, &used))
                    }
                    other => Transformed::no(other),
                })
            })?;
            Ok(name.restore(ordered.data))
        })
        .collect::<Result<Vec<_>>>()?;
    let rebuilt = Aggregate::try_new_with_schema(aggregate.input, aggregate.group_expr, aggr_expr, schema)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(rebuilt)))
}

/// The columns that the aggregation uses anywhere, in the order of its input.
fn used_columns(aggregate: &Aggregate) -> Result<Vec<Expr>> {
    let mut used: HashSet<Column> = HashSet::new();
    for expression in aggregate.group_expr.iter().chain(&aggregate.aggr_expr) {
        expression.apply(|part| {
            if let Expr::Column(column) = part {
                used.insert(column.clone());
            }
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        })?;
    }
    let schema: &DFSchema = aggregate.input.schema();
    Ok(schema.columns().into_iter().filter(|column| used.contains(column)).map(Expr::Column).collect())
}

fn append(mut call: AggregateFunction, orders: &[Vec<Sort>], used: &[Expr]) -> Expr {
    let continuing = orders.iter().filter(|order| order.starts_with(&call.params.order_by));
    if let Some(longest) = continuing.reduce(|longest, order| if order.len() > longest.len() { order } else { longest })
    {
        call.params.order_by.clone_from(longest);
    }
    for column in used {
        if !call.params.order_by.iter().any(|sort| same_column(&sort.expr, column)) {
            call.params.order_by.push(Sort { expr: column.clone(), asc: true, nulls_first: false });
        }
    }
    Expr::AggregateFunction(call)
}

fn same_column(left: &Expr, right: &Expr) -> bool {
    matches!((left, right), (Expr::Column(left), Expr::Column(right)) if left == right)
}

/// A DISTINCT call is ordered by its own argument, SQL demands it, and needs no tie-break.
fn is_ordered(call: &AggregateFunction) -> bool {
    ORDER_SENSITIVE.contains(&call.func.name()) && !call.params.order_by.is_empty() && !call.params.distinct
}

fn ordered_call(expression: &Expr) -> Option<&AggregateFunction> {
    match expression {
        Expr::AggregateFunction(call) if is_ordered(call) => Some(call),
        Expr::Alias(alias) => ordered_call(&alias.expr),
        _ => None,
    }
}
