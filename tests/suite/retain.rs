//! Bounded state: with `retain` every change is what it would be had nothing been forgotten, and state is bounded all the same.

mod grammar;

use std::sync::Arc;

use milepost::circuit::{Circuit, Forgotten, Promise, Retain};
use milepost::diagnostic::{Diagnostics, SourceText};
use milepost::state::{Delta, Table};

use super::oracle::{
    Random, Row, TABLES, batch, batch_rows, circuit, compiled, lines, random_delta, random_row, tables,
};

use grammar::query;

/// The column `at` of the tables.
const AT: usize = 4;

/// How far a row may be behind the newest one of its table, in minutes.
const RETAIN: i64 = 90;

const MINUTE: i64 = 60_000_000;

/// Jobs over `a` and `b`, which retain their rows: whatever these come to, no more than so many rows and groups are held at once.
/// `c` has rows that go.
const BOUNDED: &[&str] = &[
    "SELECT key, line + 1 AS n, at FROM a WHERE flag UNION ALL SELECT key, line, at FROM b",
    "SELECT date_trunc('hour', at) AS hour, key, count(*) AS n, sum(quantity) AS s, max(note) AS m FROM a GROUP BY 1, 2",
    "SELECT date_bin(INTERVAL '20 minutes', at) AS bin, count(DISTINCT line) AS n, median(line) AS m, array_agg(line ORDER BY line) AS l \
     FROM a GROUP BY 1",
    "SELECT local_date(at, 'Pacific/Auckland') AS day, stddev(line) AS s, count(DISTINCT key) AS k FROM a GROUP BY 1",
    "SELECT CAST(at AS DATE) AS day, at + INTERVAL '30 minutes' AS later, percentile_cont(line, 0.5) AS p FROM a GROUP BY 1, 2",
    "SELECT DISTINCT date_trunc('hour', at) AS hour, key, flag FROM a",
    "SELECT hour, count(*) AS n, max(s) AS m FROM \
     (SELECT date_trunc('hour', at) AS hour, key, sum(line) AS s FROM a GROUP BY 1, 2) AS x GROUP BY 1",
    "SELECT a.key, a.line, b.note FROM a JOIN b ON a.at = b.at",
    "SELECT a.key, a.line, b.note FROM a JOIN b ON a.key = b.key AND b.at BETWEEN a.at AND a.at + INTERVAL '30 minutes'",
    "SELECT a.key, a.line, b.note, b.at FROM a LEFT JOIN b ON a.key = b.key AND b.at >= a.at AND b.at < a.at + INTERVAL '30 minutes'",
    "SELECT a.key, a.at, b.key AS k, b.at AS t FROM a FULL JOIN b ON a.line = b.line AND b.at BETWEEN a.at - INTERVAL '5 minutes' AND a.at",
    "SELECT a.key, a.at FROM a WHERE NOT EXISTS \
     (SELECT 1 FROM b WHERE b.key = a.key AND b.at BETWEEN a.at AND a.at + INTERVAL '1 hour')",
    "SELECT a.key, a.at FROM a WHERE EXISTS \
     (SELECT 1 FROM b WHERE b.key = a.key AND b.at <= a.at + INTERVAL '1 hour' AND a.at <= b.at + INTERVAL '10 minutes')",
    "SELECT a.key, a.at FROM a WHERE a.flag OR EXISTS (SELECT 1 FROM b WHERE b.key = a.key AND b.at = a.at)",
    "SELECT date_trunc('hour', a.at) AS hour, count(*) AS n, max(b.at) AS m FROM a \
     LEFT JOIN b ON a.key = b.key AND b.at BETWEEN a.at AND a.at + INTERVAL '30 minutes' GROUP BY 1",
    "SELECT x.hour, x.n, y.n AS m FROM (SELECT date_trunc('hour', at) AS hour, count(*) AS n FROM a GROUP BY 1) AS x \
     FULL JOIN (SELECT date_trunc('hour', at) AS hour, count(*) AS n FROM b GROUP BY 1) AS y ON x.hour = y.hour",
    "SELECT key, at, row_number() OVER (PARTITION BY date_trunc('hour', at), key ORDER BY line, at) AS n FROM a",
    "SELECT hour, key, sum(n) AS s FROM \
     (SELECT key, hour, lag(line) OVER (PARTITION BY hour ORDER BY t, line) AS n FROM \
      (SELECT key, line, at AS t, date_trunc('hour', at) AS hour FROM a) AS x) AS y GROUP BY 1, 2",
    "SELECT key, at FROM a WHERE at + INTERVAL '1 hour' <= watermark()",
    "SELECT date_trunc('hour', at) AS hour, median(line) AS m FROM a WHERE at + INTERVAL '20 minutes' <= watermark() GROUP BY 1",
    "SELECT date_trunc('hour', at) AS hour, array_agg(line ORDER BY line) AS l FROM a WHERE at + INTERVAL '2 hours' > watermark() GROUP BY 1",
    "SELECT key, min(at) AS first, max(line) AS most, first_value(note ORDER BY at, line, note) AS note, count(*) AS n, avg(quantity) AS q \
     FROM a GROUP BY key",
    "SELECT key, at, line FROM a ORDER BY at DESC, line, key LIMIT 5",
    "SELECT date_trunc('hour', at) AS hour, key, count(*) AS n FROM a GROUP BY ROLLUP (date_trunc('hour', at), key)",
    "SELECT date_trunc('hour', t) AS hour, count(*) AS n, median(line) AS m FROM \
     (SELECT at AS t, line FROM a UNION ALL SELECT at + INTERVAL '10 minutes', line FROM b) AS x GROUP BY 1",
    "SELECT a.key, v.n FROM a JOIN (VALUES ('key-1', 1), ('key-2', 2)) AS v(key, n) ON a.key = v.key",
    "SELECT x.key, x.n, c.note FROM (SELECT key, count(*) AS n FROM a GROUP BY key) AS x LEFT JOIN c ON x.key = c.key",
];

/// Three tables, two of which promise that no row goes and that none comes that is too old.
struct Streams {
    random: Random,
    minutes: i64,
    newest: [i64; 2],
    /// All rows so far.
    held: Vec<Vec<Row>>,
}

impl Streams {
    fn new(seed: u64) -> Self {
        Self { random: Random(seed), minutes: 0, newest: [i64::MIN; 2], held: vec![Vec::new(); TABLES.len()] }
    }

    fn promises() -> Vec<Promise> {
        let promise = Promise { grows_only: true, retain: Some(Retain::Behind { column: AT, span: 0 }) };
        vec![promise.clone(), promise, Promise::default()]
    }

    fn forgotten(&self) -> Vec<Forgotten<'static>> {
        let horizon = |newest: &i64| (*newest > i64::MIN).then(|| newest - RETAIN * MINUTE);
        let before = self.newest.iter().map(horizon).chain([None]);
        before.map(|before| Forgotten { before, keys: None }).collect()
    }

    /// The next rows, those that are late left out.
    fn deltas(&mut self, rows_max: u64) -> Vec<Delta> {
        self.minutes += i64::try_from(self.random.below(60)).expect("small");
        let mut deltas = Vec::new();
        for (table, newest) in self.newest.iter_mut().enumerate() {
            let mut rows: Vec<Row> = Vec::new();
            for _ in 0..self.random.below(rows_max + 1) {
                let back = i64::try_from(self.random.below(150)).expect("small");
                let at = (self.random.below(30) > 0).then_some((self.minutes + 20 - back) * MINUTE);
                if at.is_some_and(|at| *newest > i64::MIN && at < *newest - RETAIN * MINUTE) {
                    continue;
                }
                *newest = at.map_or(*newest, |at| at.max(*newest));
                rows.push(Row { at, ..random_row(&mut self.random) });
            }
            self.held[table].extend(rows.iter().cloned());
            deltas.push(Delta::insertions(batch(&rows)));
        }
        deltas.push(random_delta(&mut self.random, &mut self.held[2], rows_max));
        deltas
    }
}

fn held(circuit: &Circuit) -> usize {
    circuit.describe().iter().map(|node| node.held.rows).sum()
}

/// A delta as lines, each with its weight.
fn change(delta: &Delta) -> Vec<String> {
    let rows = |sign: i64| -> Vec<String> {
        let chosen = (0..delta.len()).filter(|&row| delta.weights()[row].signum() == sign);
        let batches: Vec<_> = chosen
            .flat_map(|row| {
                std::iter::repeat_n(
                    delta.batch().slice(row, 1),
                    usize::try_from(delta.weights()[row].abs()).expect("small"),
                )
            })
            .collect();
        lines(&batches).into_iter().map(|line| format!("{sign:+} {line}")).collect()
    };
    [rows(-1), rows(1)].concat()
}

/// Steps a circuit that forgets beside one that does not: every delta is the same. Returns what both hold at the end.
fn same_deltas(
    sql: &str,
    forgetful: &mut Circuit,
    plain: &mut Circuit,
    seed: u64,
    steps: usize,
) -> Result<(usize, usize), String> {
    let mut streams = Streams::new(seed);
    let mut watermark = None;
    let mut most = 0;
    for step in 0..steps {
        let deltas = streams.deltas(if seed % 2 == 0 { 3 } else { 40 });
        if streams.random.below(3) > 0 {
            watermark = watermark
                .max(Some((streams.minutes - i64::try_from(streams.random.below(60)).expect("small")) * MINUTE));
        }
        let place = |error: String| format!("{sql}\nseed {seed}, step {step}: {error}");
        let actual = forgetful.step(&deltas, watermark).map_err(|error| place(error.to_string()))?;
        let expected = plain.step(&deltas, watermark).map_err(|error| place(error.to_string()))?;
        for (actual, expected) in actual.jobs.iter().zip(&expected.jobs) {
            let (actual, expected) = (change(actual), change(expected));
            if actual != expected {
                return Err(place(format!("\n{}\ninstead of\n{}", actual.join("\n"), expected.join("\n"))));
            }
        }
        if actual.errors != expected.errors {
            return Err(place(format!("{:?} instead of {:?}", actual.errors, expected.errors)));
        }
        forgetful.forget(&streams.forgotten()).map_err(|error| place(error.to_string()))?;
        if step >= steps / 2 {
            most = most.max(held(forgetful));
        }
    }
    Ok((most, held(plain)))
}

#[tokio::test]
async fn what_state_grows_with_says_what_is_forgotten() {
    for (sql, expected) in [
        ("SELECT key, max(at) AS n FROM a GROUP BY key", &["groups by a.key"] as &[&str]),
        ("SELECT key FROM a ORDER BY at LIMIT 3", &[]),
        (
            "SELECT key, at, median(line) AS m FROM a GROUP BY key, at",
            &["groups by a.key, a.at until they are forgotten", "rows of a until they are forgotten"],
        ),
        (
            "SELECT a.key FROM a JOIN b ON a.key = b.key AND b.at BETWEEN a.at AND a.at + INTERVAL '1 month'",
            &["rows of a until they are forgotten", "rows of b until they are forgotten"],
        ),
        (
            "SELECT a.key FROM a JOIN b ON a.key = b.key AND b.at <= a.at + INTERVAL '1 hour'",
            &["rows of b", "rows of a until they are forgotten"],
        ),
        ("SELECT a.key FROM a JOIN c ON a.key = c.key", &["rows of a", "rows of c"]),
        (
            "SELECT a.key FROM a JOIN a AS x ON a.key = x.key AND a.at + INTERVAL '1 month' >= x.at + INTERVAL '1 month'",
            &["rows of a"],
        ),
    ] {
        let circuit = circuit(&[("job".to_owned(), sql.to_owned())], &tables()).await.promising(&Streams::promises());
        assert_eq!(circuit.growth(0), expected, "{sql}");
    }
    // Neither rises with the time.
    for time in ["at + INTERVAL '1 month'", "date_part('hour', at)", "coalesce(at, TIMESTAMP '2000-01-01')"] {
        let jobs = [("job".to_owned(), format!("SELECT DISTINCT {time} AS t FROM a"))];
        let circuit = circuit(&jobs, &tables()).await.promising(&Streams::promises());
        assert!(circuit.growth(0).iter().all(|what| !what.contains("forgotten")), "{time}: {:?}", circuit.growth(0));
    }
}

#[tokio::test]
async fn what_is_forgotten_cannot_be_seen() {
    for sql in BOUNDED {
        let compile = || async { circuit(&[("job".to_owned(), (*sql).to_owned())], &tables()).await };
        for seed in 0..4 {
            let mut forgetful = compile().await.promising(&Streams::promises());
            let mut plain = compile().await;
            same_deltas(sql, &mut forgetful, &mut plain, seed, 40).unwrap_or_else(|problem| panic!("{problem}"));
        }
    }
}

#[tokio::test]
async fn a_job_over_retained_rows_equals_recomputation_over_all_of_them() {
    for sql in BOUNDED {
        let jobs = [("job".to_owned(), (*sql).to_owned())];
        let mut circuit = circuit(&jobs, &tables()).await.promising(&Streams::promises());
        let mut table = Table::new(Arc::clone(&circuit.jobs()[0].schema), Vec::new()).expect("a table");
        let mut streams = Streams::new(5);
        for step in 0..12 {
            let deltas = streams.deltas(20);
            let watermark = Some((streams.minutes - 30) * MINUTE);
            let output = circuit.step(&deltas, watermark).unwrap_or_else(|error| panic!("{sql}: {error}"));
            table.apply(&output.jobs[0]).expect("no row goes that was not there");
            circuit.forget(&streams.forgotten()).expect("forgets");
            let expected = batch_rows(&streams.held, sql, watermark).await.expect("the batch runs");
            assert_eq!(lines(&table.batches().expect("rows")), expected, "{sql}, step {step}");
        }
    }
}

#[tokio::test]
async fn state_is_bounded_by_what_is_retained() {
    let names: Vec<Arc<str>> = TABLES.iter().map(|&name| Arc::from(name)).collect();
    let mut unbounded = Vec::new();
    for sql in BOUNDED {
        let compile = || async { circuit(&[("job".to_owned(), (*sql).to_owned())], &tables()).await };
        let mut forgetful = compile().await.promising(&Streams::promises());
        let file = Arc::new(SourceText { path: "job.sql".into(), text: (*sql).to_owned() });
        let kept = forgetful.kept_for_ever(&names, &|_| Arc::clone(&file));
        let growth = forgetful.growth(0);
        let mut plain = compile().await;
        let (most, all) =
            same_deltas(sql, &mut forgetful, &mut plain, 1, 100).unwrap_or_else(|problem| panic!("{problem}"));
        eprintln!("{most:6} of {all:6} rows and groups: {sql}");
        // Some 2,000 rows a table, one in thirty without a time; groups by key alone stay, and so does all of `c`.
        let bounded = most <= 600 || growth.iter().any(|what| what == "rows of c");
        if !bounded || growth.iter().any(|what| what == "rows of a") || !kept.is_empty() {
            unbounded.push(format!("{most} of {all}, {growth:?}: {sql}\n{}", Diagnostics(kept).render(false)));
        }
    }
    assert!(unbounded.is_empty(), "{}", unbounded.join("\n"));
}

/// Whatever a query is, and whether or not its state is bounded.
#[tokio::test]
async fn what_is_forgotten_cannot_be_seen_in_random_queries() {
    let cases = std::env::var("RANDOM_SQL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150);
    let first = std::env::var("RANDOM_SQL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(40_000);
    let (mut run, mut forgot) = (0, 0);
    for seed in first..first + cases {
        let mut random = Random(seed);
        let sql = query(&mut random, 3).sql();
        let jobs = [("job".to_owned(), sql.clone())];
        let Ok(plain) = compiled(&jobs, &tables()).await else { continue };
        let mut plain = plain;
        let mut forgetful = circuit(&jobs, &tables()).await.promising(&Streams::promises());
        match same_deltas(&sql, &mut forgetful, &mut plain, seed, 16) {
            Ok((most, all)) => {
                run += 1;
                forgot += usize::from(most < all);
            }
            Err(problem) => panic!("{problem}"),
        }
    }
    eprintln!("{run} of {cases} queries from seed {first} ran, {forgot} forgot something");
    assert!(run * 2 > cases && forgot > 10, "{run} of {cases} queries ran, {forgot} forgot something");
}
