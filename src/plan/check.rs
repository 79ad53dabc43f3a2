//! What a job may not say, judged on the plan before anything is optimised: afterwards `now()` is a literal.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Volatility};

use super::place::Refusal;
use super::ties::ORDER_SENSITIVE;
use super::watermark::{WATERMARK_FUNCTION, is_watermark};

/// Every refusal in the plan, subqueries included; empty if the plan may be compiled.
pub(super) fn refusals(plan: &LogicalPlan) -> Result<Vec<Refusal>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if matches!(node, LogicalPlan::Distinct(Distinct::On(_))) {
            found.push(Refusal::new(
                "DISTINCT ON can't be kept up to date yet",
                "use GROUP BY with `first_value(… ORDER BY …)`",
                "distinct on|distinct",
            ));
        }
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                found.extend(refuse_part(part));
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    found.dedup();
    Ok(found)
}

/// The first refusal in an expression that stands outside a plan.
pub(super) fn refuse_expression(expression: &Expr) -> Option<Refusal> {
    let mut found = None;
    let seen = expression.apply(|part| {
        found = refuse_part(part);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    seen.ok().and(found)
}

fn refuse_part(expression: &Expr) -> Option<Refusal> {
    match expression {
        watermark if is_watermark(watermark) => Some(Refusal::new(
            "`watermark()` can only be compared with a row's own time",
            "put it alone on one side of `<`, `<=`, `>` or `>=`: `due_at + INTERVAL '1 day' <= watermark()`",
            "watermark",
        )),
        Expr::ScalarFunction(call) if call.func.name() == WATERMARK_FUNCTION => {
            Some(Refusal::new("`watermark()` takes no argument", "leave the brackets empty", "watermark"))
        }
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
            let name = call.func.name();
            let help = match name {
                "now" | "current_date" | "current_time" => {
                    "compare a row's own time with `watermark()`, for example `due_at <= watermark()`"
                }
                _ => "use only functions that give the same result for the same row, today and in a replay",
            };
            let words = if name == "now" { "now|current_timestamp" } else { name };
            Some(Refusal::new(format!("`{name}()` gives another result each time it is asked"), help, words))
        }
        Expr::AggregateFunction(call) => refuse_aggregate(call),
        _ => None,
    }
}

fn refuse_aggregate(call: &AggregateFunction) -> Option<Refusal> {
    let name = call.func.name();
    let exact = match name {
        "approx_distinct" => Some("count(DISTINCT x)"),
        "approx_median" => Some("median(x)"),
        "approx_percentile_cont" | "approx_percentile_cont_with_weight" => {
            Some("percentile_cont(0.9) WITHIN GROUP (ORDER BY x)")
        }
        _ => None,
    };
    if let Some(exact) = exact {
        let message = format!("`{name}` approximates, and its result depends on the order of the rows");
        return Some(Refusal::new(message, format!("use the exact `{exact}`"), name));
    }
    let by_another = |sort: &Sort| !call.params.args.contains(&sort.expr);
    if call.params.distinct && ORDER_SENSITIVE.contains(&name) && call.params.order_by.iter().any(by_another) {
        let message = format!("`{name}(DISTINCT …)` can only be ordered by what it collects");
        return Some(Refusal::new(message, "order it by its own argument, or leave DISTINCT out", name));
    }
    let unordered = ORDER_SENSITIVE.contains(&name) && call.params.order_by.is_empty();
    unordered.then(|| {
        let argument =
            call.params.args.first().map_or_else(|| "x".to_owned(), |argument| argument.human_display().to_string());
        Refusal::new(
            format!("the result of `{name}` depends on the order of the rows"),
            format!("say the order: `{name}({argument} ORDER BY …)`"),
            name,
        )
    })
}
