//! Random calls of aggregates and of window functions.

use crate::oracle::Random;

use super::expression::{Scope, Watermark, below, chance, column, pick, predicate, shown};
use super::node::{Kind, Node, Piece, fill, text};

/// An aggregate that shows this kind.
#[expect(clippy::too_many_lines, reason = "a grammar, rule by rule")]
pub(super) fn aggregate(random: &mut Random, scope: &Scope, kind: Kind) -> Node {
    let number = |random: &mut Random| pick(random, &[Kind::Integer, Kind::Decimal, Kind::Double]);
    let of = |random: &mut Random, kind: Kind| shown(random, scope, kind, 1);
    let (template, parts): (String, Vec<Node>) = match (kind, random.below(10)) {
        (Kind::Integer, 0 | 1) => ("count(*)".to_owned(), Vec::new()),
        (Kind::Integer, 2) => {
            let kind = pick(random, &Kind::ALL);
            (pick(random, &["count({})", "count(DISTINCT {})"]).to_owned(), vec![of(random, kind)])
        }
        (Kind::Integer, 3 | 4) => {
            let call = pick(random, &["sum({})", "sum(DISTINCT {})", "bit_xor({})", "bit_or({})", "bit_and({})"]);
            (call.to_owned(), vec![of(random, Kind::Integer)])
        }
        (Kind::Integer, 5) => ("CAST(regr_count({}, {}) AS BIGINT)".to_owned(), {
            vec![of(random, Kind::Double), of(random, Kind::Double)]
        }),
        (Kind::Integer, 6) => {
            let kind = pick(random, &[Kind::Text, Kind::Integer, Kind::Date]);
            let order = of(random, kind);
            ("CAST(cardinality(array_agg({} ORDER BY {})) AS BIGINT)".to_owned(), vec![of(random, kind), order])
        }
        (Kind::Decimal, 0..=3) => {
            let call = pick(
                random,
                &[
                    "CAST(sum({}) AS DECIMAL(18, 3))",
                    "CAST(avg({}) AS DECIMAL(18, 3))",
                    "median({})",
                    "CAST(sum(DISTINCT {}) AS DECIMAL(18, 3))",
                ],
            );
            (call.to_owned(), vec![of(random, Kind::Decimal)])
        }
        (Kind::Double, 0..=4) => {
            let kind = number(random);
            let call = pick(
                random,
                &[
                    "sum(CAST({} AS DOUBLE))",
                    "avg(CAST({} AS DOUBLE))",
                    "stddev({})",
                    "var_pop({})",
                    "median(CAST({} AS DOUBLE))",
                    "avg(DISTINCT CAST({} AS DOUBLE))",
                ],
            );
            (call.to_owned(), vec![of(random, kind)])
        }
        (Kind::Double, 5) => (
            pick(random, &["corr({}, {})", "covar_samp({}, {})", "regr_slope({}, {})"]).to_owned(),
            vec![of(random, Kind::Double), of(random, Kind::Double)],
        ),
        (Kind::Double, 6) => {
            ("percentile_cont(0.75) WITHIN GROUP (ORDER BY {})".to_owned(), vec![of(random, Kind::Double)])
        }
        (Kind::Boolean, _) => {
            (pick(random, &["bool_and({})", "bool_or({})"]).to_owned(), vec![of(random, Kind::Boolean)])
        }
        (Kind::Text, 0 | 1) => {
            let kind = pick(random, &Kind::ALL);
            let by = of(random, kind);
            ("string_agg({}, '+' ORDER BY {})".to_owned(), vec![of(random, Kind::Text), by])
        }
        (_, 7 | 8) => {
            // A column: of an order by a constant DataFusion's batch makes a panic.
            let (by, order) = pick(random, scope);
            let order = Node::value(order, vec![text(by)]);
            let call = pick(
                random,
                &[
                    "first_value({} ORDER BY {})",
                    "last_value({} ORDER BY {} DESC)",
                    "first_value({} ORDER BY {} NULLS FIRST)",
                    "nth_value({}, 2 ORDER BY {})",
                ],
            );
            (call.to_owned(), vec![of(random, kind), order])
        }
        _ => (pick(random, &["min({})", "max({})"]).to_owned(), vec![of(random, kind)]),
    };
    let mut pieces = fill(&template, parts);
    // A CAST around the call leaves no place for a FILTER behind it.
    if !template.starts_with("CAST(") && chance(random, 20) {
        let condition = predicate(random, scope, 0, Watermark::Refused);
        pieces.push(Piece::Node(Node::clause(fill(" FILTER (WHERE {})", vec![condition]))));
    }
    Node::value(kind, pieces)
}

/// A window function that shows this kind.
#[expect(clippy::too_many_lines, reason = "a grammar, rule by rule")]
pub(super) fn window(random: &mut Random, scope: &Scope, kind: Kind) -> Node {
    let of = |random: &mut Random, kind: Kind| shown(random, scope, kind, 1);
    let partition = |random: &mut Random| -> Piece {
        let kind = pick(random, &[Kind::Text, Kind::Integer, Kind::Boolean, Kind::Date]);
        let by = if chance(random, 75) { column(random, scope, kind) } else { None };
        Piece::Node(Node::clause(by.map_or_else(Vec::new, |by| fill("PARTITION BY {} ", vec![by]))))
    };
    let order = |random: &mut Random, kinds: &[Kind]| -> Option<Vec<Piece>> {
        let found: Vec<Node> = kinds.iter().filter_map(|&kind| column(random, scope, kind)).collect();
        let by = (!found.is_empty()).then(|| pick(random, &found))?;
        let direction = pick(random, &["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
        Some(fill(&format!("ORDER BY {{}}{direction}"), vec![by]))
    };
    let over = |call: Vec<Piece>, partition: Piece, order: Vec<Piece>, frame: &str| {
        let mut pieces = call;
        pieces.push(text(" OVER ("));
        pieces.push(partition);
        pieces.extend(order);
        pieces.push(Piece::Node(Node::clause(vec![text(frame)])));
        pieces.push(text(")"));
        Node::value(kind, pieces)
    };
    let parts = partition(random);
    let by_any = order(random, &Kind::ALL);
    let Some(by_any) = by_any else { return shown(random, scope, kind, 1) };
    if kind == Kind::Integer && chance(random, 40) {
        let call = pick(random, &["row_number()", "rank()", "dense_rank()", "ntile(3)"]);
        let call = vec![text(format!("CAST({call}"))];
        let node = over(call, parts, by_any, "");
        return Node::value(kind, fill("{} AS BIGINT)", vec![node]));
    }
    if chance(random, 50) {
        let calls = ["lag({})", "lead({}, 2)", "first_value({})", "last_value({})", "nth_value({}, 2)"];
        let place = below(random, calls.len());
        let frames =
            [" ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING", " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"];
        let (call, frame) = (calls[place], if place < 2 { "" } else { pick(random, &frames) });
        let call = fill(call, vec![of(random, kind)]);
        return over(call, parts, by_any, frame);
    }
    let frames = [
        "",
        " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
        " ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
        " ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING",
        " GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
        " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    ];
    let frame = pick(random, &frames);
    let call = match kind {
        Kind::Integer => pick(random, &["sum({})", "count({})", "max({})", "min({})"]),
        Kind::Decimal => pick(random, &["max({})", "min({})"]),
        Kind::Boolean => pick(random, &["bool_or({})", "bool_and({})"]),
        // Doubles are added up in the order of the window, and ties in it are refused; that is for the readable corpus.
        _ => pick(random, &["max({})", "min({})"]),
    };
    if kind == Kind::Boolean || kind == Kind::Double {
        return over(fill("first_value({})", vec![of(random, kind)]), parts, by_any, "");
    }
    let ranged = order(random, &[Kind::Integer]).filter(|_| chance(random, 25));
    let call = fill(call, vec![of(random, kind)]);
    match ranged {
        Some(by) => over(call, parts, by, " RANGE BETWEEN 1 PRECEDING AND 2 FOLLOWING"),
        None => over(call, parts, by_any, frame),
    }
}
