//! What a job may not say, judged on the plan before anything is optimised: afterwards `now()` is a literal.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue, Span};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan, Volatility};

use super::place::Refusal;
use super::ties::ORDER_SENSITIVE;
use super::watermark::{WATERMARK_FUNCTION, is_watermark};
use super::windows;

/// Every refusal in the plan, subqueries included; empty if the plan may be compiled.
pub(super) fn refusals(plan: &LogicalPlan) -> Result<Vec<Refusal>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        found.extend(unordered(node));
        let input = match node {
            LogicalPlan::Aggregate(aggregate) => Some(aggregate.input.schema().as_ref()),
            LogicalPlan::Window(window) => Some(window.input.schema().as_ref()),
            _ => None,
        };
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                found.extend(refuse_part(part, input));
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    found.dedup();
    Ok(found)
}

/// Rows that are picked without an order.
fn unordered(node: &LogicalPlan) -> Option<Refusal> {
    match node {
        LogicalPlan::Distinct(Distinct::On(distinct)) if distinct.sort_expr.is_none() => Some(Refusal::new(
            "which row DISTINCT ON keeps depends on their order",
            "say the order: `SELECT DISTINCT ON (k) … ORDER BY k, …`",
            "distinct on|distinct",
        )),
        LogicalPlan::Limit(limit) if !is_ordered(&limit.input) && limit.input.max_rows() != Some(1) => {
            Some(Refusal::new(
                "which rows LIMIT keeps depends on their order",
                "say the order: `ORDER BY … LIMIT …`",
                "limit|offset|fetch|top",
            ))
        }
        LogicalPlan::Limit(limit) if limit.fetch.is_none() => Some(Refusal::new(
            "OFFSET without LIMIT can't be relied on: its order may get lost when the SELECT is run in one go",
            "write a LIMIT too, or number the rows: `row_number() OVER (ORDER BY …)`",
            "offset",
        )),
        _ => None,
    }
}

fn is_ordered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(projection) => is_ordered(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_ordered(&alias.input),
        _ => false,
    }
}

/// The first refusal in an expression that stands outside a plan.
pub(super) fn refuse_expression(expression: &Expr) -> Option<Refusal> {
    let mut found = None;
    let seen = expression.apply(|part| {
        found = refuse_part(part, None);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    seen.ok().and(found)
}

/// `input` is what an aggregation reads.
fn refuse_part(expression: &Expr, input: Option<&DFSchema>) -> Option<Refusal> {
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
        Expr::WindowFunction(call) if input.is_none() => Some(Refusal::new(
            format!("the window function `{}` can't stand here", call.fun.name()),
            "compute it in SELECT, and filter by it with QUALIFY or in a query around this one",
            call.fun.name(),
        )),
        Expr::WindowFunction(call) => windows::refusal(call, input?, &MAINTAINED).or_else(|| {
            (call.fun.name() == "sum").then(|| refuse_sum_of(&call.params.args, call.params.distinct, input?)).flatten()
        }),
        Expr::AggregateFunction(call) => refuse_aggregate(call, input).map(|refusal| refusal.inside(place_in(call))),
        _ => None,
    }
}

/// A place inside the call, or behind it in WITHIN GROUP: that of the first column it reads.
fn place_in(call: &AggregateFunction) -> Option<Span> {
    let parameters = &call.params;
    let parts = parameters.args.iter().chain(parameters.order_by.iter().map(|sort| &sort.expr));
    let columns = parts.flat_map(Expr::column_refs);
    columns.filter_map(|column| column.spans().first()).min_by_key(|span| (span.start.line, span.start.column))
}

fn refuse_aggregate(call: &AggregateFunction, input: Option<&DFSchema>) -> Option<Refusal> {
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
    if name == "any_value" {
        let help = "say which: `min({})`, or `first_value({} ORDER BY …)`";
        return Some(Refusal::new("`any_value` shows whichever row comes first", help, name));
    }
    if !MAINTAINED.contains(&name) {
        let message =
            format!("`{name}` can't be kept up to date: whether it depends on the order of the rows is not known");
        return Some(Refusal::new(message, format!("use one of {}", MAINTAINED.join(", ")), name));
    }
    refuse_order(call).or_else(|| refuse_share(call)).or_else(|| refuse_sum(call, input?))
}

/// A percentile whose share is none.
fn refuse_share(call: &AggregateFunction) -> Option<Refusal> {
    if call.func.name() != "percentile_cont" {
        return None;
    }
    let share = call.params.args.get(1).cloned().and_then(constant);
    let message = match share {
        Some(share) if (0.0..=1.0).contains(&share) => return None,
        Some(share) => format!("the share of `percentile_cont` is {share}"),
        None => "the share of `percentile_cont` must be a number that stands there".to_owned(),
    };
    let help = "give a number from 0 to 1: `percentile_cont(0.9) WITHIN GROUP (ORDER BY x)`";
    Some(Refusal::new(message, help, "percentile_cont"))
}

/// The value of a number that is written out.
fn constant(expression: Expr) -> Option<f64> {
    match expression {
        Expr::Literal(value, _) => match value.cast_to(&DataType::Float64).ok()? {
            ScalarValue::Float64(value) => value,
            _ => None,
        },
        Expr::Negative(inner) => constant(*inner).map(|value| -value),
        Expr::Cast(cast) => constant(*cast.expr),
        Expr::Alias(alias) => constant(*alias.expr),
        _ => None,
    }
}

fn refuse_order(call: &AggregateFunction) -> Option<Refusal> {
    let name = call.func.name();
    let by_another = |sort: &Sort| !call.params.args.contains(&sort.expr);
    if call.params.distinct && ORDER_SENSITIVE.contains(&name) && call.params.order_by.iter().any(by_another) {
        let message = format!("`{name}(DISTINCT …)` can only be ordered by what it collects");
        return Some(Refusal::new(message, "order it by its own argument, or leave DISTINCT out", name));
    }
    let unordered = ORDER_SENSITIVE.contains(&name) && call.params.order_by.is_empty();
    unordered.then(|| {
        Refusal::new(
            format!("the result of `{name}` depends on the order of the rows"),
            format!("say the order: `{name}({{}} ORDER BY …)`"),
            name,
        )
    })
}

fn refuse_sum(call: &AggregateFunction, input: &DFSchema) -> Option<Refusal> {
    (call.func.name() == "sum").then(|| refuse_sum_of(&call.params.args, call.params.distinct, input)).flatten()
}

/// Sums that could wrap.
fn refuse_sum_of(arguments: &[Expr], distinct: bool, input: &DFSchema) -> Option<Refusal> {
    let distinct = if distinct { "DISTINCT " } else { "" };
    let decimal = |precision: u8, scale: i8| {
        Refusal::new(
            format!("a sum of decimals of {precision} digits can wrap"),
            format!(
                "cast the argument to at most 28 digits: `sum({distinct}CAST({{}} AS DECIMAL(28, {})))`",
                scale.clamp(0, 28)
            ),
            "sum",
        )
    };
    match arguments.first()?.get_type(input).ok()? {
        DataType::Decimal128(precision, scale) if precision > 28 => Some(decimal(precision, scale)),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal256(precision, scale) => Some(decimal(precision, scale)),
        DataType::Interval(_) => Some(Refusal::new(
            "a sum of intervals can wrap",
            "sum seconds: `sum(to_unixtime(b) - to_unixtime(a))`",
            "sum",
        )),
        _ => None,
    }
}

/// The aggregates that are kept up to date, by weights or over their whole groups. Each has a job in `tests/oracle`.
const MAINTAINED: [&str; 34] = [
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "first_value",
    "grouping",
    "last_value",
    "max",
    "median",
    "min",
    "nth_value",
    "percentile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "string_agg",
    "sum",
    "var",
    "var_pop",
];
