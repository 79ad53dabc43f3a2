//! Random expressions and predicates over the columns that are in scope.

use crate::oracle::Random;

use super::node::{Kind, Node, Piece, fill, text};

/// Columns in scope: how they are written, and their kinds.
pub(super) type Scope = Vec<(String, Kind)>;

/// Whether a comparison with the watermark may stand somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watermark {
    Allowed,
    Refused,
}

pub(super) fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).expect("small")
}

pub(super) fn pick<T: Clone>(random: &mut Random, choices: &[T]) -> T {
    choices[below(random, choices.len())].clone()
}

pub(super) fn chance(random: &mut Random, percent: u64) -> bool {
    random.below(100) < percent
}

/// A column of the kind, if there is one.
pub(super) fn column(random: &mut Random, scope: &Scope, kind: Kind) -> Option<Node> {
    let names: Vec<&String> = scope.iter().filter(|(_, other)| *other == kind).map(|(name, _)| name).collect();
    (!names.is_empty()).then(|| Node::value(kind, vec![text(pick(random, &names).clone())]))
}

fn leaf(random: &mut Random, scope: &Scope, kind: Kind) -> Node {
    let found = if chance(random, 90) { column(random, scope, kind) } else { None };
    found.unwrap_or_else(|| Node::value(kind, vec![text(pick(random, literals(kind)))]))
}

fn literals(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Text => &["'x'", "'hot'", "''", "'k-3'", "CAST(NULL AS TEXT)"],
        Kind::Integer => &["0", "1", "2", "-3", "CAST(NULL AS BIGINT)"],
        Kind::Decimal => &["CAST(1.5 AS DECIMAL(18, 3))", "CAST(0 AS DECIMAL(18, 3))"],
        Kind::Double => &["CAST(0.5 AS DOUBLE)", "CAST('NaN' AS DOUBLE)", "CAST(0 AS DOUBLE)"],
        Kind::Boolean => &["true", "false", "CAST(NULL AS BOOLEAN)"],
        Kind::Time => &[
            "arrow_cast('1970-01-01T01:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))')",
            "arrow_cast('1970-01-01T02:30:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))')",
        ],
        Kind::Date => &["DATE '1970-01-02'", "CAST(NULL AS DATE)"],
    }
}

/// One of two values, by a column: constant columns are what DataFusion's batch leaves sorts and group keys out for, also
/// where an outer join or a grouping set puts nulls in their place.
pub(super) fn one_of_two(column: &str, kind: Kind) -> String {
    let values = literals(kind);
    format!("CASE WHEN {column} IS NULL THEN {} ELSE {} END", values[0], values[1])
}

/// An expression that fails on no row and is no constant, where there is a column.
pub(super) fn shown(random: &mut Random, scope: &Scope, kind: Kind, depth: usize) -> Node {
    let value = value(random, scope, kind, depth);
    let sql = value.sql();
    if scope.is_empty() || scope.iter().any(|(name, _)| sql.contains(name.as_str())) {
        return value;
    }
    let column = pick(random, scope).0;
    Node::value(kind, vec![text(one_of_two(&column, kind))])
}

/// An expression that fails on no row.
#[expect(clippy::too_many_lines, reason = "a grammar, rule by rule")]
pub(super) fn value(random: &mut Random, scope: &Scope, kind: Kind, depth: usize) -> Node {
    if depth == 0 || chance(random, 55) {
        return leaf(random, scope, kind);
    }
    let all: &[(&str, &[Kind])] = match kind {
        Kind::Text => &[
            ("upper({})", &[Kind::Text]),
            ("{} || '-'", &[Kind::Text]),
            ("{} || {}", &[Kind::Text, Kind::Text]),
            ("left({}, 2)", &[Kind::Text]),
            ("replace({}, 'k', 'c')", &[Kind::Text]),
            ("CAST({} AS TEXT)", &[Kind::Integer]),
            ("CAST({} AS TEXT)", &[Kind::Date]),
            ("nullif({}, {})", &[Kind::Text, Kind::Text]),
        ],
        Kind::Integer => &[
            ("{} + 1", &[Kind::Integer]),
            ("({} - {})", &[Kind::Integer, Kind::Integer]),
            ("{} * 2", &[Kind::Integer]),
            ("{} % 3", &[Kind::Integer]),
            ("{} / 2", &[Kind::Integer]),
            ("-({})", &[Kind::Integer]),
            ("abs({})", &[Kind::Integer]),
            ("CAST(length({}) AS BIGINT)", &[Kind::Text]),
            ("CAST(date_part('day', {}) AS BIGINT)", &[Kind::Date]),
            ("CAST(date_part('hour', {}) AS BIGINT)", &[Kind::Time]),
            ("CAST(floor({}) AS BIGINT)", &[Kind::Decimal]),
        ],
        Kind::Decimal => &[
            ("CAST({} + 0.125 AS DECIMAL(18, 3))", &[Kind::Decimal]),
            ("CAST({} * 3 AS DECIMAL(18, 3))", &[Kind::Decimal]),
            ("CAST({} - {} AS DECIMAL(18, 3))", &[Kind::Decimal, Kind::Decimal]),
            ("CAST(round({}, 1) AS DECIMAL(18, 3))", &[Kind::Decimal]),
            ("CAST({} AS DECIMAL(18, 3))", &[Kind::Integer]),
            ("CAST(abs({}) AS DECIMAL(18, 3))", &[Kind::Decimal]),
        ],
        Kind::Double => &[
            ("{} + CAST(0.1 AS DOUBLE)", &[Kind::Double]),
            ("{} * 2", &[Kind::Double]),
            ("{} - {}", &[Kind::Double, Kind::Double]),
            ("abs({})", &[Kind::Double]),
            ("-({})", &[Kind::Double]),
            ("CAST({} AS DOUBLE)", &[Kind::Integer]),
            ("CAST({} AS DOUBLE)", &[Kind::Decimal]),
        ],
        Kind::Time => &[
            ("{} + INTERVAL '1 hour'", &[Kind::Time]),
            ("{} - INTERVAL '90 seconds'", &[Kind::Time]),
            ("date_trunc('hour', {})", &[Kind::Time]),
            ("arrow_cast(date_bin(INTERVAL '15 minutes', {}), 'Timestamp(Microsecond, Some(\"UTC\"))')", &[Kind::Time]),
        ],
        Kind::Date => &[
            ("CAST({} AS DATE)", &[Kind::Time]),
            ("CAST({} + INTERVAL '1 day' AS DATE)", &[Kind::Date]),
            ("CAST(date_trunc('month', {}) AS DATE)", &[Kind::Date]),
        ],
        Kind::Boolean => return predicate(random, scope, depth - 1, Watermark::Refused),
    };
    match random.below(6) {
        0 => {
            let condition = predicate(random, scope, depth - 1, Watermark::Refused);
            let parts = vec![condition, value(random, scope, kind, depth - 1), value(random, scope, kind, depth - 1)];
            Node::value(kind, fill("CASE WHEN {} THEN {} ELSE {} END", parts))
        }
        1 => {
            let parts = vec![value(random, scope, kind, depth - 1), value(random, scope, kind, depth - 1)];
            Node::value(kind, fill("coalesce({}, {})", parts))
        }
        _ => {
            let (template, kinds) = pick(random, all);
            let parts = kinds.iter().map(|&kind| value(random, scope, kind, depth - 1)).collect();
            Node::value(kind, fill(template, parts))
        }
    }
}

/// A condition that fails on no row.
pub(super) fn predicate(random: &mut Random, scope: &Scope, depth: usize, watermark: Watermark) -> Node {
    let truth = |pieces: Vec<Piece>| Node::value(Kind::Boolean, pieces);
    if watermark == Watermark::Allowed
        && chance(random, 15)
        && let Some(time) = column(random, scope, Kind::Time)
    {
        let template = pick(
            random,
            &["{} <= watermark()", "{} > watermark()", "{} + INTERVAL '1 hour' < watermark()", "watermark() < {}"],
        );
        return truth(fill(template, vec![time]));
    }
    match random.below(if depth == 0 { 6 } else { 9 }) {
        0 => column(random, scope, Kind::Boolean)
            .unwrap_or_else(|| truth(vec![text(pick(random, &["true", "1 = 1", "2 < 1"]))])),
        1 | 2 => {
            let kind = pick(random, &Kind::ALL);
            let comparison = pick(random, &["=", "<>", "<", "<=", ">", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]);
            let parts = vec![leaf(random, scope, kind), leaf(random, scope, kind)];
            truth(fill(&format!("({{}} {comparison} {{}})"), parts))
        }
        3 => {
            let kind = pick(random, &Kind::ALL);
            let template = pick(random, &["{} IS NULL", "{} IS NOT NULL"]);
            truth(fill(template, vec![leaf(random, scope, kind)]))
        }
        4 => {
            let template = pick(random, &["{} LIKE 'k%'", "{} IN ('hot', 'k-1', 'k-2')", "{} NOT IN ('hot', '')"]);
            truth(fill(template, vec![leaf(random, scope, Kind::Text)]))
        }
        5 => {
            let template =
                pick(random, &["{} BETWEEN 0 AND 2", "{} IN (1, 2)", "{} % 2 = 0", "{} NOT BETWEEN 1 AND 1"]);
            truth(fill(template, vec![leaf(random, scope, Kind::Integer)]))
        }
        6 => truth(fill("NOT ({})", vec![predicate(random, scope, depth - 1, watermark)])),
        7 => {
            let parts = (0..2).map(|_| predicate(random, scope, depth - 1, watermark)).collect();
            truth(fill(pick(random, &["({} AND {})", "({} OR {})"]), parts))
        }
        _ => {
            let parts = vec![
                predicate(random, scope, depth - 1, watermark),
                leaf(random, scope, Kind::Boolean),
                leaf(random, scope, Kind::Boolean),
            ];
            truth(fill("CASE WHEN {} THEN {} ELSE {} END", parts))
        }
    }
}
