//! Random queries over the oracle's tables, with a time in each. Every query shows the columns `k` (text), `n` (integer), `t` (time) and `f` (boolean), so that any query can
//! stand where any other does; and no expression fails on any row.

use crate::oracle::Random;

/// A query, as a tree.
#[derive(Debug, Clone)]
pub(super) struct Query {
    shape: Shape,
    inputs: Vec<Query>,
    /// What the shape leaves open, as SQL; `{x}` and `{y}` stand for the inputs' aliases.
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Table,
    Values,
    Filter,
    Project,
    Join,
    Subquery,
    NotIn,
    Group,
    Sets,
    Whole,
    Distinct,
    DistinctOn,
    Set,
    Window,
    Limit,
    Scalar,
    Unnest,
    With,
}

fn pick<'a>(random: &mut Random, choices: &[&'a str]) -> &'a str {
    choices[usize::try_from(random.below(choices.len() as u64)).expect("small")]
}

/// A random query of at most this depth.
pub(super) fn query(random: &mut Random, depth: usize) -> Query {
    if depth == 0 {
        let table = pick(random, &["a", "b", "c"]);
        return Query { shape: Shape::Table, inputs: Vec::new(), detail: table.to_owned() };
    }
    let shapes = [
        Shape::Filter,
        Shape::Filter,
        Shape::Project,
        Shape::Join,
        Shape::Join,
        Shape::Join,
        Shape::Subquery,
        Shape::Subquery,
        Shape::NotIn,
        Shape::Group,
        Shape::Group,
        Shape::Group,
        Shape::Sets,
        Shape::Whole,
        Shape::Distinct,
        Shape::DistinctOn,
        Shape::Set,
        Shape::Set,
        Shape::Window,
        Shape::Window,
        Shape::Limit,
        Shape::Scalar,
        Shape::Unnest,
        Shape::With,
        Shape::Values,
    ];
    let shape = shapes[usize::try_from(random.below(shapes.len() as u64)).expect("small")];
    let count = match shape {
        Shape::Table | Shape::Values => 0,
        Shape::Join | Shape::Subquery | Shape::NotIn | Shape::Set | Shape::Scalar => 2,
        _ => 1,
    };
    let mut detail = detail(random, shape);
    let inputs: Vec<Query> = (0..count)
        .map(|_| {
            let less = usize::try_from(random.below(2)).expect("small");
            query(random, depth.saturating_sub(1 + less))
        })
        .collect();
    // In a batch DataFusion takes the columns of one row for constants also where an outer join or a grouping set puts nulls in
    // their place, and then leaves out sorts that are needed.
    if inputs.iter().any(Query::may_have_one_row) {
        match shape {
            Shape::Join => detail = format!("JOIN|{}", detail.split_once('|').map_or("", |(_, condition)| condition)),
            Shape::Sets => "GROUPING SETS (({x}.k, {x}.f))".clone_into(&mut detail),
            _ => {}
        }
    }
    Query { shape, inputs, detail }
}

#[expect(clippy::too_many_lines, reason = "a grammar, rule by rule")]
fn detail(random: &mut Random, shape: Shape) -> String {
    let predicate = [
        "{x}.f",
        "{x}.n > 1",
        "{x}.n IS NULL OR NOT {x}.f",
        "{x}.k LIKE '%1%'",
        "{x}.k IN ('key-1', 'key-2', 'key-3')",
        "{x}.t <= watermark()",
        "{x}.t > watermark() OR {x}.n = 2",
        "{x}.n BETWEEN 0 AND 2 AND {x}.t IS NOT NULL",
        "CASE WHEN {x}.f THEN {x}.n ELSE 1 END = 1",
    ];
    let condition = [
        "{x}.k = {y}.k",
        "{x}.k = {y}.k AND {x}.n = {y}.n",
        "{x}.k = {y}.k AND {x}.t < {y}.t",
        "{x}.k = {y}.k AND ({x}.f OR {y}.n > 1)",
        "{x}.n = {y}.n + 1 AND {x}.k = {y}.k",
        "{x}.k IS NOT DISTINCT FROM {y}.k AND {x}.n = {y}.n",
        "{x}.t = {y}.t",
        "{x}.t < {y}.t AND {x}.n > {y}.n",
    ];
    match shape {
        Shape::Filter => pick(random, &predicate).to_owned(),
        Shape::Project => {
            let text = pick(random, &["{x}.k", "upper({x}.k)", "coalesce({x}.k, 'none')", "left({x}.k, 5)"]);
            let number = pick(random, &["{x}.n", "{x}.n + 1", "coalesce({x}.n, 7) % 3", "length({x}.k)", "-{x}.n"]);
            let flag = pick(random, &["{x}.f", "NOT {x}.f", "{x}.n > 1", "{x}.k IS NULL"]);
            let time = pick(random, &["{x}.t", "{x}.t + INTERVAL '1 hour'", "date_trunc('hour', {x}.t)"]);
            format!("{text} AS k, {number} AS n, {time} AS t, {flag} AS f")
        }
        Shape::Join => {
            let kind = pick(random, &["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
            format!("{kind}|{}", pick(random, &condition))
        }
        Shape::Subquery => {
            let kind = pick(random, &["EXISTS", "NOT EXISTS", "f OR EXISTS"]);
            format!("{kind}|{}", pick(random, &condition))
        }
        Shape::NotIn => pick(random, &["NOT IN", "IN", "f OR NOT IN"]).to_owned(),
        Shape::Group => {
            let number = pick(
                random,
                &[
                    "count(*)",
                    "sum({x}.n)",
                    "min({x}.n)",
                    "max({x}.n) FILTER (WHERE {x}.f)",
                    "count(DISTINCT {x}.n)",
                    "sum(DISTINCT {x}.n)",
                    "CAST(avg({x}.n) AS BIGINT)",
                    "first_value({x}.n ORDER BY {x}.t, {x}.n)",
                    "last_value({x}.n ORDER BY {x}.t NULLS FIRST)",
                    "CAST(median({x}.n) AS BIGINT)",
                    "length(string_agg({x}.k, ',' ORDER BY {x}.n))",
                    "cardinality(array_agg({x}.n ORDER BY {x}.n))",
                    "CAST(stddev({x}.n) * 100 AS BIGINT)",
                    "bit_or({x}.n)",
                ],
            );
            let keys = pick(random, &["{x}.k", "{x}.k, {x}.f", "{x}.k, date_trunc('hour', {x}.t)"]);
            let having = pick(random, &["", "", " HAVING count(*) > 1", " HAVING max({x}.n) < 3"]);
            format!("{number}|{keys}|{having}")
        }
        Shape::Sets => pick(
            random,
            &["ROLLUP ({x}.k, {x}.f)", "CUBE ({x}.k, {x}.f)", "GROUPING SETS (({x}.k, {x}.f), ({x}.f), ())"],
        )
        .to_owned(),
        Shape::Set => {
            pick(random, &["UNION ALL", "UNION ALL", "UNION", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"])
                .to_owned()
        }
        Shape::Window => pick(
            random,
            &[
                "row_number() OVER (PARTITION BY {x}.k ORDER BY {x}.t)",
                "rank() OVER (PARTITION BY {x}.k ORDER BY {x}.n)",
                "dense_rank() OVER (ORDER BY {x}.n, {x}.f)",
                "lag({x}.n) OVER (PARTITION BY {x}.k ORDER BY {x}.t)",
                "lead({x}.n, 2, 9) OVER (PARTITION BY {x}.f ORDER BY {x}.t DESC)",
                "sum({x}.n) OVER (PARTITION BY {x}.k ORDER BY {x}.t)",
                "sum({x}.n) OVER (PARTITION BY {x}.k)",
                "count(*) OVER (PARTITION BY {x}.k ORDER BY {x}.t ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING)",
                "max({x}.n) OVER (ORDER BY {x}.n RANGE BETWEEN 1 PRECEDING AND CURRENT ROW)",
                "sum({x}.n) OVER (PARTITION BY {x}.k ORDER BY {x}.n GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
                "first_value({x}.n) OVER (PARTITION BY {x}.k ORDER BY {x}.t DESC NULLS LAST)",
                "ntile(3) OVER (PARTITION BY {x}.k ORDER BY {x}.t)",
            ],
        )
        .to_owned(),
        Shape::Limit => {
            let order =
                pick(random, &["{x}.n", "{x}.t DESC", "{x}.k, {x}.n DESC NULLS LAST", "{x}.f, {x}.t NULLS FIRST"]);
            // No OFFSET: under a window DataFusion's batch loses rows with it. `tests/oracle` has it alone.
            let slice = pick(random, &["LIMIT 5", "LIMIT 3", "LIMIT 1", "LIMIT 20"]);
            format!("{order} {slice}")
        }
        Shape::Scalar => pick(
            random,
            &["max({y}.n)|", "count(*)|", "min({y}.n)| WHERE {y}.k = {x}.k", "count(*)| WHERE {y}.k = {x}.k AND {y}.f"],
        )
        .to_owned(),
        Shape::Values => {
            "(VALUES ('key-1', 1, TIMESTAMP '1970-01-01T01:00:00Z', true), ('key-2', NULL, NULL, false))".to_owned()
        }
        Shape::With => pick(random, &condition).to_owned(),
        Shape::Table | Shape::Whole | Shape::Distinct | Shape::DistinctOn | Shape::Unnest => String::new(),
    }
}

impl Query {
    /// Whether the query, or one inside it, has one row whatever it reads.
    fn may_have_one_row(&self) -> bool {
        self.shape == Shape::Whole || self.detail.ends_with("LIMIT 1") || self.inputs.iter().any(Self::may_have_one_row)
    }

    /// The query as SQL.
    pub(super) fn sql(&self) -> String {
        let mut aliases = 0;
        self.write(&mut aliases)
    }

    #[expect(clippy::too_many_lines, reason = "a grammar, rule by rule")]
    fn write(&self, aliases: &mut usize) -> String {
        let mut named = |query: &Query| {
            let sql = query.write(aliases);
            *aliases += 1;
            (format!("({sql}) AS q{aliases}"), format!("q{aliases}"))
        };
        let inputs: Vec<(String, String)> = self.inputs.iter().map(&mut named).collect();
        let none = (String::new(), String::new());
        let (from, x) = inputs.first().unwrap_or(&none);
        let (other, y) = inputs.get(1).unwrap_or(&none);
        let detail = self.detail.replace("{x}", x).replace("{y}", y);
        let mut parts = detail.split('|');
        let mut part = || parts.next().unwrap_or_default();
        match self.shape {
            Shape::Table => format!("SELECT key AS k, line AS n, at AS t, flag AS f FROM {detail}"),
            Shape::Values => format!(
                "SELECT k, CAST(n AS BIGINT) AS n, arrow_cast(t, 'Timestamp(Microsecond, Some(\"UTC\"))') AS t, f FROM {detail} AS v (k, n, t, f)"
            ),
            Shape::Filter => format!("SELECT * FROM {from} WHERE {detail}"),
            Shape::Project => format!("SELECT {detail} FROM {from}"),
            Shape::Join => format!("SELECT {x}.k, {y}.n, {x}.t, {y}.f FROM {from} {} {other} ON {}", part(), part()),
            Shape::Subquery => {
                let (kind, condition) = (part(), part());
                let kind = kind.replacen("f OR", &format!("{x}.f OR"), 1);
                format!("SELECT * FROM {from} WHERE {kind} (SELECT 1 FROM {other} WHERE {condition})")
            }
            Shape::NotIn => {
                let kind = match detail.strip_prefix("f OR ") {
                    Some(kind) => format!("{x}.f OR {x}.n {kind}"),
                    None => format!("{x}.n {detail}"),
                };
                format!("SELECT * FROM {from} WHERE {kind} (SELECT {y}.n FROM {other})")
            }
            Shape::Group => format!(
                "SELECT {x}.k, {} AS n, max({x}.t) AS t, bool_or({x}.f) AS f FROM {from} GROUP BY {}{}",
                part(),
                part(),
                part()
            ),
            Shape::Sets => format!(
                "SELECT {x}.k, count(*) + grouping({x}.k) AS n, max({x}.t) AS t, {x}.f FROM {from} GROUP BY {detail}"
            ),
            Shape::Whole => {
                format!("SELECT max({x}.k) AS k, count(*) AS n, min({x}.t) AS t, bool_and({x}.f) AS f FROM {from}")
            }
            Shape::Distinct => format!("SELECT DISTINCT * FROM {from}"),
            Shape::DistinctOn => {
                format!("SELECT DISTINCT ON ({x}.k) {x}.k, {x}.n, {x}.t, {x}.f FROM {from} ORDER BY {x}.k, {x}.t DESC")
            }
            Shape::Set => format!("SELECT * FROM {from} {detail} SELECT * FROM {other}"),
            Shape::Window => format!("SELECT {x}.k, CAST({detail} AS BIGINT) AS n, {x}.t, {x}.f FROM {from}"),
            Shape::Limit => format!("SELECT * FROM {from} ORDER BY {detail}"),
            Shape::Scalar => {
                let (value, condition) = (part(), part());
                format!("SELECT {x}.k, (SELECT {value} FROM {other}{condition}) AS n, {x}.t, {x}.f FROM {from}")
            }
            Shape::Unnest => format!("SELECT {x}.k, unnest(make_array({x}.n, 5)) AS n, {x}.t, {x}.f FROM {from}"),
            Shape::With => {
                let condition = self.detail.replace("{x}", "l").replace("{y}", "r");
                format!(
                    "SELECT * FROM (WITH w AS (SELECT * FROM {from}) SELECT l.k, r.n, l.t, r.f FROM w AS l JOIN w AS r ON {condition})"
                )
            }
        }
    }
}
