//! What a job may not say, judged on the plan before anything is optimised: afterwards `now()` is a literal.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::place::Refusal;
use super::ties::ORDER_SENSITIVE;
use super::watermark::is_watermark;

/// Every refusal in the plan, subqueries included; empty if the plan may be compiled.
pub(super) fn refusals(plan: &LogicalPlan) -> Result<Vec<Refusal>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                found.extend(refusal(part));
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    found.dedup();
    Ok(found)
}

fn refusal(expression: &Expr) -> Option<Refusal> {
    match expression {
        watermark if is_watermark(watermark) => Some(Refusal::new(
            "`watermark()` can only be compared with a row's own time",
            "put it alone on one side of `<`, `<=`, `>` or `>=`: `due_at + INTERVAL '1 day' <= watermark()`",
            "watermark",
        )),
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
            let name = call.func.name();
            let help = match name {
                "now" | "current_date" | "current_time" => {
                    "compare a row's own time with `watermark()`, for example `due_at <= watermark()`"
                }
                _ => "use only functions that give the same result for the same row, today and in a replay",
            };
            Some(Refusal::new(format!("`{name}()` gives another result each time it is asked"), help, name))
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
