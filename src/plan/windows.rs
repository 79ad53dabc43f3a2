//! Window functions: what their results depend on beside the rows themselves.
//!
//! Rows with equal ORDER BY values are *peers*. Which of two peers comes first is open in SQL, and would be decided differently
//! by every engine, batch size and restart. For a function in whose result that can be seen, the other columns that the query
//! uses are appended to its ORDER BY. That is right only where the function does not look at peers as such: `rank` counts
//! them, and a RANGE or GROUPS frame ends with the last of them. A function that sees both peers and their order is refused.

use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::{ExprSchemable, WindowFrameUnits, WindowFunctionDefinition};

use super::place::Refusal;
use super::ties::ORDER_SENSITIVE;

/// What the order of peers does to a function's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peers {
    /// Nothing: they are counted, or their order can't be seen.
    Equal,
    /// It decides; ties are to be broken.
    Ordered,
    /// The result depends on both, so that no order of peers is right.
    Both,
}

/// How a window function over rows of `input` sees peers.
pub(super) fn peers(call: &WindowFunction, input: &DFSchema) -> Peers {
    let name = call.fun.name();
    if matches!(call.fun, WindowFunctionDefinition::WindowUDF(_)) {
        if OF_PEERS.contains(&name) {
            return Peers::Equal;
        }
        if OF_POSITIONS.contains(&name) {
            return Peers::Ordered;
        }
    }
    let frame = &call.params.window_frame;
    let from_start = frame.start_bound.is_unbounded();
    let whole = from_start && frame.end_bound.is_unbounded();
    let picks = ORDER_SENSITIVE.contains(&name);
    let of_floats =
        call.params.args.iter().any(|argument| argument.get_type(input).is_ok_and(|kind| kind.is_floating()));
    let rounds = of_floats && !matches!(name, "count" | "min" | "max");
    match frame.units {
        _ if whole => {
            if picks || rounds {
                Peers::Ordered
            } else {
                Peers::Equal
            }
        }
        WindowFrameUnits::Rows => Peers::Ordered,
        _ if name == "first_value" && from_start && call.params.null_treatment != Some(NullTreatment::IgnoreNulls) => {
            Peers::Ordered
        }
        _ if picks || rounds => Peers::Both,
        _ => Peers::Equal,
    }
}

/// Why a window function can't be kept up to date, if it can't. `maintained` are the aggregates that can.
pub(super) fn refusal(call: &WindowFunction, input: &DFSchema, maintained: &[&str]) -> Option<Refusal> {
    let name = call.fun.name();
    let known = match &call.fun {
        WindowFunctionDefinition::AggregateUDF(_) => maintained.contains(&name),
        WindowFunctionDefinition::WindowUDF(_) => {
            OF_PEERS.contains(&name) || OF_POSITIONS.contains(&name) || ORDER_SENSITIVE.contains(&name)
        }
    };
    if !known {
        let message =
            format!("`{name}` can't be kept up to date: whether it depends on the order of the rows is not known");
        return Some(Refusal::new(message, "use an aggregate or a window function of standard SQL", name));
    }
    let peers = peers(call, input);
    if peers == Peers::Both {
        let frame = call.params.window_frame.units;
        return Some(Refusal::new(
            format!(
                "the result of `{name}` over this {frame} frame depends on the order of rows that are equal in its ORDER BY"
            ),
            if ORDER_SENSITIVE.contains(&name) {
                "write ROWS in place of RANGE or GROUPS, or `ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING`"
            } else {
                "write ROWS in place of RANGE or GROUPS, or cast the doubles to DECIMAL"
            },
            name,
        ));
    }
    let sums_only = call.params.window_frame.start_bound.is_unbounded()
        && call.params.window_frame.end_bound.is_unbounded()
        && !ORDER_SENSITIVE.contains(&name)
        && !OF_POSITIONS.contains(&name);
    if peers == Peers::Ordered && call.params.order_by.is_empty() && !sums_only {
        return Some(Refusal::new(
            format!("the result of `{name}` depends on the order of the rows"),
            "say the order: `OVER (… ORDER BY …)`",
            name,
        ));
    }
    None
}

/// Functions that count peers, or take them as one.
const OF_PEERS: [&str; 4] = ["cume_dist", "dense_rank", "percent_rank", "rank"];
/// Functions that count rows, whatever the frame.
const OF_POSITIONS: [&str; 4] = ["lag", "lead", "ntile", "row_number"];
