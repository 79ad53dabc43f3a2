//! Ties in the order of rows, broken the same way in a circuit and in a batch: in window functions, in ORDER BY with LIMIT, and
//! in DISTINCT ON.
//!
//! To each ORDER BY whose order of equal rows can be seen, the other columns that the query uses are appended, in the order of
//! its input. Rows that agree in all of those are the same to the query, whichever comes first. It runs as an analyzer rule:
//! before columns are pruned. What window functions see of equal rows, [`super::windows`] knows.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{DistinctOn, Sort as SortPlan, Window};
use datafusion::logical_expr::{AggregateUDF, Distinct, Expr, ExprSchemable, LogicalPlan, WindowFunctionDefinition};
use datafusion::optimizer::AnalyzerRule;

use super::canonical::widened;
use super::exact::{ExactMean, ExactSum};
use super::windows::{Peers, peers};

/// The analyzer rule; it runs after types are coerced.
#[derive(Debug)]
pub(super) struct OrderRows;

impl AnalyzerRule for OrderRows {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite(plan, Above::default()).map(|rewritten| rewritten.data)
    }

    fn name(&self) -> &'static str {
        "order_rows"
    }
}

/// What stands above a node, up to the next projection.
#[derive(Debug, Clone, Default)]
struct Above {
    /// The columns that are used there; none if that is not known.
    used: Option<HashSet<Column>>,
    /// Whether a LIMIT stands there.
    limited: bool,
}

impl Above {
    fn uses<'a>(mut self, expressions: impl Iterator<Item = &'a Expr>) -> Self {
        if let Some(used) = &mut self.used {
            used.extend(expressions.flat_map(Expr::column_refs).cloned());
        }
        self
    }
}

fn rewrite(plan: LogicalPlan, above: Above) -> Result<Transformed<LogicalPlan>> {
    let below = match &plan {
        LogicalPlan::Projection(projection) => {
            Above { used: Some(HashSet::new()), limited: above.limited }.uses(projection.expr.iter())
        }
        LogicalPlan::Filter(filter) => {
            Above { limited: false, ..above.clone() }.uses(std::iter::once(&filter.predicate))
        }
        LogicalPlan::Sort(sort) => {
            Above { limited: false, ..above.clone() }.uses(sort.expr.iter().map(|sort| &sort.expr))
        }
        LogicalPlan::Window(window) => Above { limited: false, ..above.clone() }.uses(window.window_expr.iter()),
        LogicalPlan::Limit(_) => Above { used: None, limited: true },
        LogicalPlan::SubqueryAlias(_) => Above { used: None, limited: above.limited },
        _ => Above::default(),
    };
    let plan = plan.map_subqueries(|subquery| rewrite(subquery, Above::default()))?;
    let plan = plan.transform_sibling(|plan| plan.map_children(|child| rewrite(child, below.clone())))?;
    plan.transform_parent(|plan| match plan {
        LogicalPlan::Window(window) => break_windows(window, below.used.as_ref()),
        LogicalPlan::Sort(sort) if above.limited || sort.fetch.is_some() => break_sort(sort),
        LogicalPlan::Distinct(Distinct::On(distinct)) => break_distinct(distinct),
        other => Ok(Transformed::no(other)),
    })
}

/// The columns of a schema as tie-breakers, of those that are used.
fn tie_breakers(schema: &DFSchema, used: Option<&HashSet<Column>>) -> Vec<Expr> {
    let columns = schema.columns().into_iter();
    columns.filter(|column| used.is_none_or(|used| used.contains(column))).map(Expr::Column).collect()
}

fn append(order: &mut Vec<Sort>, columns: &[Expr]) {
    for column in columns {
        if order.iter().all(|sort| sort.expr != *column) {
            order.push(Sort { expr: column.clone(), asc: true, nulls_first: false });
        }
    }
}

fn break_sort(mut sort: SortPlan) -> Result<Transformed<LogicalPlan>> {
    append(&mut sort.expr, &tie_breakers(sort.input.schema(), None));
    Ok(Transformed::yes(LogicalPlan::Sort(sort)))
}

fn break_distinct(mut distinct: DistinctOn) -> Result<Transformed<LogicalPlan>> {
    let Some(order) = &mut distinct.sort_expr else {
        return Ok(Transformed::no(LogicalPlan::Distinct(Distinct::On(distinct))));
    };
    let used: HashSet<Column> = distinct.select_expr.iter().flat_map(Expr::column_refs).cloned().collect();
    append(order, &tie_breakers(distinct.input.schema(), Some(&used)));
    Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::On(distinct))))
}

/// The same window functions with their ties broken; those that come to stand in another order than their neighbours become
/// a node of their own, as DataFusion demands.
fn break_windows(window: Window, used: Option<&HashSet<Column>>) -> Result<Transformed<LogicalPlan>> {
    let input = Arc::clone(window.input.schema());
    let columns = tie_breakers(&input, used);
    let plan = LogicalPlan::Window(window);
    let names = NamePreserver::new(&plan);
    let LogicalPlan::Window(window) = plan else { unreachable!("made above") };
    let mut nodes: Vec<(Vec<Sort>, Vec<Expr>)> = Vec::new();
    for expression in window.window_expr {
        let name = names.save(&expression);
        let mut order: Vec<Sort> = Vec::new();
        let broken = expression.transform_up(|part| match part {
            Expr::WindowFunction(mut call) => {
                if peers(&call, &input) == Peers::Ordered {
                    append(&mut call.params.order_by, &columns);
                }
                exact(&mut call, &input);
                order.clone_from(&call.params.order_by);
                Ok(Transformed::yes(Expr::WindowFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        let broken = name.restore(broken.data);
        match nodes.iter_mut().find(|(known, _)| *known == order) {
            Some((_, calls)) => calls.push(broken),
            None => nodes.push((order, vec![broken])),
        }
    }
    let mut plan = window.input;
    for (_, calls) in nodes {
        plan = Arc::new(LogicalPlan::Window(Window::try_new(calls, plan)?));
    }
    Ok(Transformed::yes(Arc::unwrap_or_clone(plan)))
}

/// Sums and means of integers neither wrap nor round.
fn exact(call: &mut WindowFunction, input: &DFSchema) {
    let Some(argument) = call.params.args.first() else { return };
    let function = match call.fun.name() {
        "avg" => widened(argument, input).cloned().map(|integer| (AggregateUDF::from(ExactMean::new()), integer)),
        "sum" => argument
            .get_type(input)
            .is_ok_and(|kind| kind.is_integer())
            .then(|| (AggregateUDF::from(ExactSum::new()), argument.clone())),
        _ => None,
    };
    if let Some((function, argument)) = function.filter(|_| !call.params.distinct) {
        call.fun = WindowFunctionDefinition::AggregateUDF(Arc::new(function));
        call.params.args = vec![argument];
    }
}
