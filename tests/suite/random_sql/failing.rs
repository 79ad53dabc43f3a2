//! Queries that fail on some rows or groups, beside what they mean over the others.
//!
//! The job says `n / m`. The batch, which would fail as a whole, says the same over the rows for which it does not fail, and says it
//! behind a CASE. The expression stands on top, where nothing can leave it out.

use crate::oracle::Random;

use super::expression::{Scope, chance, column, pick};
use super::node::{Column, Kind, Node, Piece, text};

/// What fails.
#[derive(Debug, Clone)]
pub(super) enum Failing {
    /// Rows: the query that counts them.
    Rows(Node),
    Groups,
}

/// An expression, and the condition under which it fails.
struct Fallible {
    sql: String,
    fails: String,
}

impl Fallible {
    fn new(random: &mut Random, scope: &Scope) -> Self {
        let mut name = |kind| column(random, scope, kind).expect("asked for").sql();
        let (x, y, k) = (name(Kind::Integer), name(Kind::Integer), name(Kind::Text));
        let found = pick(
            random,
            &[
                (format!("{x} / {y}"), format!("{y} = 0 AND {x} IS NOT NULL")),
                (format!("{x} % {y}"), format!("{y} = 0 AND {x} IS NOT NULL")),
                (format!("CAST({k} AS BIGINT)"), format!("{k} IS NOT NULL AND TRY_CAST({k} AS BIGINT) IS NULL")),
                (format!("{x} * 4611686018427387904"), format!("{x} NOT BETWEEN -2 AND 1")),
                (format!("{x} + 9223372036854775807"), format!("{x} > 0")),
            ],
        );
        Self { sql: found.0, fails: found.1 }
    }

    fn value(&self) -> Piece {
        let batch = format!("CASE WHEN ({}) IS NOT TRUE THEN {} END", self.fails, self.sql);
        Piece::Either { job: self.sql.clone(), batch }
    }

    fn guard(&self) -> Piece {
        Piece::Either { job: String::new(), batch: format!(" WHERE ({}) IS NOT TRUE", self.fails) }
    }
}

/// A failing query over the rows of `from`, which has two integers and a text.
pub(super) fn query(random: &mut Random, scope: &Scope, from: &Piece) -> (Node, Failing) {
    let fallible = Fallible::new(random, scope);
    let from = vec![text(" FROM "), from.clone()];
    let count = [vec![text("SELECT count(*) AS n0")], from.clone(), vec![text(format!(" WHERE {}", fallible.fails))]];
    let rows = Failing::Rows(Node::query(vec![integer("n0")], count.concat()));
    let key = column(random, scope, Kind::Text).expect("asked for").sql();
    let parts: [Vec<Piece>; 3] = match random.below(4) {
        0 => {
            let mut shown = vec![text("SELECT "), fallible.value(), text(" AS n0")];
            // Every column stands in the job's row, so that no two of its rows are taken for one.
            shown.extend(scope.iter().enumerate().map(|(place, (name, _))| text(format!(", {name} AS c{place}"))));
            [shown, from, vec![fallible.guard()]]
        }
        1 => {
            let more = pick(random, &[" > 1", " IS NULL", " < 3"]);
            let held = Piece::Either {
                job: format!(" WHERE {}{more}", fallible.sql),
                batch: format!(
                    " WHERE ({0}) IS NOT TRUE AND CASE WHEN ({0}) IS NOT TRUE THEN {1} END{more}",
                    fallible.fails, fallible.sql
                ),
            };
            return (
                Node::query(
                    vec![("k0".to_owned(), Kind::Text)],
                    [vec![text(format!("SELECT {key} AS k0"))], from, vec![held]].concat(),
                ),
                Failing::Groups,
            );
        }
        2 => {
            let call = pick(random, &["max", "count", "min"]);
            let shown = vec![text(format!("SELECT {key} AS k0, {call}(")), fallible.value(), text(") AS n0")];
            let grouped = vec![fallible.guard(), text(format!(" GROUP BY {key}"))];
            return (Node::query(vec![integer("n0")], [shown, from, grouped].concat()), Failing::Groups);
        }
        _ => return (sums(random, scope, &from, &key), Failing::Groups),
    };
    (Node::query(vec![integer("n0")], parts.concat()), rows)
}

/// Sums that are beyond their type in some groups.
fn sums(random: &mut Random, scope: &Scope, from: &[Piece], key: &str) -> Node {
    let number = column(random, scope, Kind::Integer).expect("asked for").sql();
    let large = format!("CASE WHEN {number} BETWEEN -3 AND 3 THEN {number} END * 3074457345618258602");
    let distinct = if chance(random, 30) { "DISTINCT " } else { "" };
    let exact = format!("sum({distinct}CAST({large} AS DECIMAL(28, 0)))");
    let fits = format!("{exact} BETWEEN -9223372036854775808 AND 9223372036854775807");
    let sum = Piece::Either {
        job: format!("sum({distinct}{large})"),
        batch: format!("CASE WHEN {fits} THEN CAST({exact} AS BIGINT) END"),
    };
    let having = Piece::Either { job: String::new(), batch: format!(" HAVING {exact} IS NULL OR {fits}") };
    let shown = vec![text(format!("SELECT {key} AS k0, count(*) AS n1, ")), sum, text(" AS n0")];
    let grouped = vec![text(format!(" GROUP BY {key}")), having];
    Node::query(vec![integer("n0")], [shown, from.to_vec(), grouped].concat())
}

fn integer(name: &str) -> Column {
    (name.to_owned(), Kind::Integer)
}
