//! Random queries over random tables. A query is asked for columns of some kinds, and reads others that it chooses.

use crate::oracle::Random;

use super::calls::{aggregate, window};
use super::expression::{Scope, Watermark, below, chance, column, one_of_two, pick, predicate, shown, value};
use super::failing::Failing;
use super::node::{Column, Kind, Node, Piece, columns, fill, listed, text};
use super::tables::TableShape;

/// Makes queries over some tables.
pub(super) struct Grammar<'t> {
    tables: &'t [TableShape],
    aliases: usize,
}

/// A query in a FROM: as it is written there, and its columns.
struct From {
    piece: Piece,
    scope: Scope,
    alias: String,
    /// Whether it may have one row whatever it reads. In a batch DataFusion takes the columns of one row for constants also where
    /// an outer join or a grouping set puts nulls in their place.
    one_row: bool,
}

/// A query, and whether it may have one row whatever it reads.
struct Made {
    node: Node,
    one_row: bool,
}

impl From {
    fn kinds(&self) -> Vec<Kind> {
        self.scope.iter().map(|(_, kind)| *kind).collect()
    }
}

/// A SELECT of columns of a table under other names; a literal where the table has none of the kind.
pub(super) fn read(table: &TableShape, wanted: &[Column]) -> Node {
    let item = |(name, kind): &Column| {
        let found = table.columns.iter().find(|column| column == &&(name.clone(), *kind));
        let found = found.or_else(|| table.columns.iter().find(|(_, other)| other == kind));
        let written = found.map_or_else(|| one_of_two(&table.columns[0].0, *kind), |(column, _)| column.clone());
        format!("{written} AS {name}")
    };
    let items: Vec<String> = wanted.iter().map(item).collect();
    Node::query(wanted.to_vec(), vec![text(format!("SELECT {} FROM {}", items.join(", "), table.name))])
}

fn some_kinds(random: &mut Random) -> Vec<Kind> {
    (0..2 + below(random, 5)).map(|_| pick(random, &Kind::ALL)).collect()
}

impl<'t> Grammar<'t> {
    pub(super) fn new(tables: &'t [TableShape]) -> Self {
        Self { tables, aliases: 0 }
    }

    /// A query of at most this depth.
    pub(super) fn query(&mut self, random: &mut Random, depth: usize) -> Node {
        let wanted = some_kinds(random);
        self.made(random, depth, &wanted).node
    }

    /// A query some of whose rows fail.
    pub(super) fn failing(&mut self, random: &mut Random, depth: usize) -> (Node, Failing) {
        let mut kinds = some_kinds(random);
        kinds.extend([Kind::Integer, Kind::Integer, Kind::Text]);
        let from = self.from(random, depth, &kinds);
        super::failing::query(random, &from.scope, &from.piece)
    }

    fn made(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Made {
        if depth == 0 {
            let node = read(&pick(random, self.tables), &columns(wanted));
            return Made { node, one_row: false };
        }
        let many = |node| Made { node, one_row: false };
        match random.below(34) {
            0..=3 => self.plain(random, depth, wanted),
            4..=9 => many(self.join(random, depth, wanted)),
            10..=12 => many(self.by_subquery(random, depth, wanted)),
            13 | 14 => many(self.scalar(random, depth, wanted)),
            15..=18 => many(self.group(random, depth, wanted)),
            19 | 20 => many(self.grouping_sets(random, depth, wanted)),
            21 => self.whole(random, depth, wanted),
            22 => many(self.distinct(random, depth, wanted)),
            23 => many(self.distinct_on(random, depth, wanted)),
            24..=26 => many(self.set(random, depth, wanted)),
            27..=29 => many(self.window(random, depth, wanted)),
            30 => self.limit(random, depth, wanted),
            31 => many(self.unnest(random, depth, wanted)),
            32 => many(self.with(random, depth, wanted)),
            _ => many(self.values(random, wanted)),
        }
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("q{}", self.aliases)
    }

    /// A smaller query in brackets, under an alias.
    fn from(&mut self, random: &mut Random, depth: usize, kinds: &[Kind]) -> From {
        let less = depth.saturating_sub(1 + below(random, 2));
        let made = self.made(random, less, kinds);
        let alias = self.alias();
        let scope = columns(kinds).into_iter().map(|(name, kind)| (format!("{alias}.{name}"), kind)).collect();
        let piece = Piece::Node(Node::part(vec![text("("), Piece::Node(made.node), text(format!(") AS {alias}"))]));
        From { piece, scope, alias, one_row: made.one_row }
    }

    fn some(&mut self, random: &mut Random, depth: usize) -> From {
        let kinds = some_kinds(random);
        self.from(random, depth, &kinds)
    }

    fn plain(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Made {
        let from = self.some(random, depth);
        let mut pieces = select(random, &from.scope, wanted);
        pieces.extend([text(" FROM "), from.piece]);
        if chance(random, 70) {
            pieces.push(filter(random, &from.scope));
        }
        Made { node: Node::query(columns(wanted), pieces), one_row: from.one_row }
    }

    fn join(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Node {
        let left = self.some(random, depth);
        // At least one kind in common.
        let mut kinds = some_kinds(random);
        kinds.push(pick(random, &left.kinds()));
        let right = self.from(random, depth, &kinds);
        let outer = ["LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];
        let kind = if left.one_row || right.one_row {
            "JOIN"
        } else {
            pick(random, &["JOIN", "JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN", outer[0], outer[0], outer[1], outer[2]])
        };
        let both: Scope = left.scope.iter().chain(&right.scope).cloned().collect();
        let on = self.condition(random, &left.scope, &right.scope, &both);
        let shown = if kind.contains("SEMI") || kind.contains("ANTI") { &left.scope } else { &both };
        let mut pieces = select(random, shown, wanted);
        pieces.extend([text(" FROM "), left.piece, text(format!(" {kind} ")), right.piece]);
        pieces.extend(on);
        if chance(random, 25) {
            pieces.push(filter(random, shown));
        }
        Node::query(columns(wanted), pieces)
    }

    /// ` ON …`: mostly an equality, often with more.
    fn condition(&self, random: &mut Random, left: &Scope, right: &Scope, both: &Scope) -> Vec<Piece> {
        let common: Vec<Kind> = Kind::ALL
            .into_iter()
            .filter(|kind| [left, right].iter().all(|side| side.iter().any(|(_, other)| other == kind)))
            .collect();
        let kind = pick(random, &common);
        let pair = |random: &mut Random, kind: Kind| {
            [column(random, left, kind).expect("in common"), column(random, right, kind).expect("in common")].to_vec()
        };
        let comparison = match random.below(12) {
            0 => "({} IS NOT DISTINCT FROM {})",
            1 => "{} < {}",
            2 => "{} <= {}",
            _ => "{} = {}",
        };
        let mut pieces = fill(" ON ", Vec::new());
        pieces.extend(fill(comparison, pair(random, kind)));
        if chance(random, 40) {
            let kind = pick(random, &common);
            let comparison = pick(random, &["=", "<", "<>", "<="]);
            pieces.push(Piece::Node(Node::clause(fill(&format!(" AND {{}} {comparison} {{}}"), pair(random, kind)))));
        }
        if chance(random, 25) {
            let more = predicate(random, both, 1, Watermark::Refused);
            pieces.push(Piece::Node(Node::clause(fill(" AND ({})", vec![more]))));
        }
        pieces
    }

    fn by_subquery(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Node {
        let from = self.some(random, depth);
        let kind = pick(random, &from.kinds());
        let other = self.from(random, depth, &[kind, Kind::Integer]);
        let key = column(random, &from.scope, kind).expect("its own kind");
        let same = column(random, &other.scope, kind).expect("its own kind");
        let mut pieces = select(random, &from.scope, wanted);
        pieces.extend([text(" FROM "), from.piece]);
        let either = if chance(random, 25) {
            fill("{} OR ", vec![predicate(random, &from.scope, 0, Watermark::Refused)])
        } else {
            Vec::new()
        };
        pieces.push(text(" WHERE "));
        pieces.push(Piece::Node(Node::clause(either)));
        if chance(random, 40) {
            let listed = pick(random, &["{} IN (SELECT {} FROM ", "{} NOT IN (SELECT {} FROM "]);
            pieces.extend(fill(listed, vec![key, same]));
            pieces.push(other.piece);
            if chance(random, 30) {
                pieces.push(filter(random, &other.scope));
            }
        } else {
            pieces.push(text(pick(random, &["EXISTS", "NOT EXISTS"])));
            pieces.extend([text(" (SELECT 1 FROM "), other.piece]);
            let comparison = pick(random, &["=", "=", "=", "IS NOT DISTINCT FROM", "<"]);
            pieces.extend(fill(&format!(" WHERE {{}} {comparison} {{}}"), vec![same, key]));
            if chance(random, 40) {
                let more = predicate(random, &other.scope, 1, Watermark::Refused);
                pieces.push(Piece::Node(Node::clause(fill(" AND ({})", vec![more]))));
            }
        }
        pieces.push(text(")"));
        Node::query(columns(wanted), pieces)
    }

    /// A subquery as a value, beside other columns.
    fn scalar(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Node {
        let from = self.some(random, depth);
        let kind = pick(random, &from.kinds());
        let first = wanted.first().copied().unwrap_or(Kind::Integer);
        let other = self.from(random, depth, &[kind, first]);
        let mut inner = fill("(SELECT {} FROM ", vec![aggregate(random, &other.scope, first)]);
        inner.push(other.piece.clone());
        if chance(random, 60) {
            let same = column(random, &other.scope, kind).expect("its own kind");
            let key = column(random, &from.scope, kind).expect("its own kind");
            inner.push(Piece::Node(Node::clause(fill(" WHERE {} = {}", vec![same, key]))));
        }
        inner.push(text(")"));
        let mut items = vec![Node::value(first, inner)];
        items.extend(wanted.iter().skip(1).map(|&kind| shown(random, &from.scope, kind, 1)));
        let mut pieces = vec![text("SELECT ")];
        pieces.extend(listed(items, &columns(wanted)));
        pieces.extend([text(" FROM "), from.piece]);
        Node::query(columns(wanted), pieces)
    }

    fn group(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Node {
        let from = self.some(random, depth);
        let keys = keys(random, &from.scope);
        let mut pieces = grouped(random, &from.scope, &keys, wanted);
        pieces.extend([text(" FROM "), from.piece, text(" GROUP BY ")]);
        pieces.push(text(keys.iter().map(|key| key.sql()).collect::<Vec<_>>().join(", ")));
        if chance(random, 30) {
            let shown = pick(random, &[Kind::Integer, Kind::Text, Kind::Double]);
            let call = aggregate(random, &from.scope, shown);
            let template = match shown {
                Kind::Integer => " HAVING {} > 1",
                Kind::Text => " HAVING {} IS NOT NULL",
                _ => " HAVING {} < 2",
            };
            pieces.push(Piece::Node(Node::clause(fill(template, vec![call]))));
        }
        Node::query(columns(wanted), pieces)
    }

    fn grouping_sets(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Node {
        let from = self.some(random, depth);
        let mut names: Vec<(String, Kind)> = from.scope.clone();
        while names.len() > 2 {
            names.swap_remove(below(random, names.len()));
        }
        let keys: Vec<Node> = names.iter().map(|(name, kind)| Node::value(*kind, vec![text(name.clone())])).collect();
        let mut pieces = grouped(random, &from.scope, &keys, wanted);
        let [first, second] = names.as_slice() else { unreachable!("some kinds are two at least") };
        let (first, second) = (&first.0, &second.0);
        let sets = if from.one_row {
            format!("GROUPING SETS (({first}, {second}))")
        } else {
            pick(
                random,
                &[
                    format!("ROLLUP ({first}, {second})"),
                    format!("CUBE ({first}, {second})"),
                    format!("GROUPING SETS (({first}, {second}), ({second}), ())"),
                    format!("{first}, ROLLUP ({second})"),
                ],
            )
        };
        pieces.extend([text(" FROM "), from.piece, text(format!(" GROUP BY {sets}"))]);
        Node::query(columns(wanted), pieces)
    }

    fn whole(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Made {
        let from = self.some(random, depth);
        let mut pieces = grouped(random, &from.scope, &[], wanted);
        pieces.extend([text(" FROM "), from.piece]);
        if chance(random, 40) {
            pieces.push(filter(random, &from.scope));
        }
        Made { node: Node::query(columns(wanted), pieces), one_row: true }
    }

    fn distinct(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Node {
        let from = self.some(random, depth);
        let mut pieces = select(random, &from.scope, wanted);
        pieces[0] = text("SELECT DISTINCT ");
        pieces.extend([text(" FROM "), from.piece]);
        Node::query(columns(wanted), pieces)
    }

    fn distinct_on(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Node {
        let from = self.some(random, depth);
        let kind = pick(random, &from.kinds());
        let key = column(random, &from.scope, kind).expect("its own kind").sql();
        let by = pick(random, &from.kinds());
        let by = column(random, &from.scope, by).expect("its own kind").sql();
        let mut pieces = select(random, &from.scope, wanted);
        pieces[0] = text(format!("SELECT DISTINCT ON ({key}) "));
        let direction = pick(random, &["", " DESC", " NULLS FIRST"]);
        let more = if by == key { String::new() } else { format!(", {by}{direction}") };
        pieces.extend([text(" FROM "), from.piece, text(format!(" ORDER BY {key}{more}"))]);
        Node::query(columns(wanted), pieces)
    }

    fn set(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Node {
        let operation =
            pick(random, &["UNION ALL", "UNION ALL", "UNION", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"]);
        let (left, right) = (self.from(random, depth, wanted), self.from(random, depth, wanted));
        let pieces =
            vec![text("SELECT * FROM "), left.piece, text(format!(" {operation} SELECT * FROM ")), right.piece];
        Node::query(columns(wanted), pieces)
    }

    fn window(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Node {
        let from = self.some(random, depth);
        let mut items = Vec::new();
        for (place, &kind) in wanted.iter().enumerate() {
            let call = place == 0 || chance(random, 30);
            let item = if call { window(random, &from.scope, kind) } else { shown(random, &from.scope, kind, 1) };
            items.push(item);
        }
        let mut pieces = vec![text("SELECT ")];
        pieces.extend(listed(items, &columns(wanted)));
        pieces.extend([text(" FROM "), from.piece]);
        Node::query(columns(wanted), pieces)
    }

    fn limit(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Made {
        let from = self.from(random, depth, wanted);
        let kind = pick(random, wanted);
        let by = column(random, &from.scope, kind).expect("its own kind").sql();
        let direction = pick(random, &["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
        // No OFFSET: under a window DataFusion's batch loses rows with it. `tests/oracle` has it alone.
        let limit = pick(random, &[1, 2, 3, 5, 20]);
        let alias = from.alias;
        let pieces = vec![
            text(format!("SELECT {alias}.* FROM ")),
            from.piece,
            text(format!(" ORDER BY {by}{direction} LIMIT {limit}")),
        ];
        Made { node: Node::query(columns(wanted), pieces), one_row: limit == 1 || from.one_row }
    }

    fn unnest(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Node {
        let from = self.some(random, depth);
        let names = columns(wanted);
        // Under names of their own: beside unnest DataFusion takes names of the result for those of the input.
        let inner: Vec<Column> = names.iter().map(|(name, kind)| (format!("u_{name}"), *kind)).collect();
        let mut items = Vec::new();
        for (place, &kind) in wanted.iter().enumerate() {
            let item = if place == 0 {
                let parts = (0..2).map(|_| shown(random, &from.scope, kind, 1)).collect();
                Node::value(kind, fill("unnest(make_array({}, {}))", parts))
            } else {
                shown(random, &from.scope, kind, 1)
            };
            items.push(item);
        }
        let mut pieces = vec![text("SELECT ")];
        pieces.extend(listed(items, &inner));
        pieces.extend([text(" FROM "), from.piece]);
        let alias = self.alias();
        let renamed: Vec<String> =
            names.iter().zip(&inner).map(|((name, _), (inner, _))| format!("{alias}.{inner} AS {name}")).collect();
        let pieces = vec![
            text(format!("SELECT {} FROM (", renamed.join(", "))),
            Piece::Node(Node::part(pieces)),
            text(format!(") AS {alias}")),
        ];
        Node::query(names, pieces)
    }

    /// A query that is read twice.
    fn with(&mut self, random: &mut Random, depth: usize, wanted: &[Kind]) -> Node {
        let kinds = some_kinds(random);
        let made = self.made(random, depth - 1, &kinds);
        let (name, left, right) = (self.alias(), self.alias(), self.alias());
        let scope = |alias: &str| -> Scope {
            columns(&kinds).into_iter().map(|(name, kind)| (format!("{alias}.{name}"), kind)).collect()
        };
        let both: Scope = scope(&left).into_iter().chain(scope(&right)).collect();
        let mut pieces = vec![text(format!("WITH {name} AS (")), Piece::Node(made.node), text(") ")];
        pieces.extend(select(random, &both, wanted));
        pieces.push(text(format!(" FROM {name} AS {left} JOIN {name} AS {right}")));
        pieces.extend(self.condition(random, &scope(&left), &scope(&right), &both));
        Node::query(columns(wanted), pieces)
    }

    fn values(&mut self, random: &mut Random, wanted: &[Kind]) -> Node {
        let alias = self.alias();
        let rows: Vec<String> = (0..1 + below(random, 3))
            .map(|_| {
                let row: Vec<String> = wanted.iter().map(|&kind| value(random, &Vec::new(), kind, 1).sql()).collect();
                format!("({})", row.join(", "))
            })
            .collect();
        let names = columns(wanted);
        let plain: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        let cast: Vec<String> = names
            .iter()
            .map(|(name, kind)| match kind {
                Kind::Time => format!("{alias}.{name} AS {name}"),
                _ => format!("CAST({alias}.{name} AS {}) AS {name}", kind.sql()),
            })
            .collect();
        let sql =
            format!("SELECT {} FROM (VALUES {}) AS {alias} ({})", cast.join(", "), rows.join(", "), plain.join(", "));
        Node::query(names, vec![text(sql)])
    }
}

/// `SELECT` with an expression for each column.
fn select(random: &mut Random, scope: &Scope, wanted: &[Kind]) -> Vec<Piece> {
    let items = wanted.iter().map(|&kind| shown(random, scope, kind, 2)).collect();
    let mut pieces = vec![text("SELECT ")];
    pieces.extend(listed(items, &columns(wanted)));
    pieces
}

/// `SELECT` with keys and aggregates.
fn grouped(random: &mut Random, scope: &Scope, keys: &[Node], wanted: &[Kind]) -> Vec<Piece> {
    let mut items = Vec::new();
    for &kind in wanted {
        let same: Vec<&Node> =
            keys.iter().filter(|key| matches!(key.sort, super::node::Sort::Value(other) if other == kind)).collect();
        let item = match same.as_slice() {
            [] => aggregate(random, scope, kind),
            same if chance(random, 70) => pick(random, same).clone(),
            _ => aggregate(random, scope, kind),
        };
        items.push(item);
    }
    let mut pieces = vec![text("SELECT ")];
    pieces.extend(listed(items, &columns(wanted)));
    pieces
}

/// One or two keys of a GROUP BY.
fn keys(random: &mut Random, scope: &Scope) -> Vec<Node> {
    let kinds: Vec<Kind> = scope.iter().map(|(_, kind)| *kind).collect();
    let mut keys: Vec<Node> = Vec::new();
    for _ in 0..1 + below(random, 2) {
        let kind = pick(random, &kinds);
        let key = if chance(random, 20) {
            value(random, scope, kind, 1)
        } else {
            column(random, scope, kind).expect("its own kind")
        };
        // A literal would be taken for a position, or for nothing to group by.
        if key.sql().contains('.') && keys.iter().all(|other| other.sql() != key.sql()) {
            keys.push(key);
        }
    }
    if keys.is_empty() { vec![column(random, scope, kinds[0]).expect("its own kind")] } else { keys }
}

fn filter(random: &mut Random, scope: &Scope) -> Piece {
    Piece::Node(Node::clause(fill(" WHERE {}", vec![predicate(random, scope, 2, Watermark::Allowed)])))
}
