//! The oracle, at random: queries from a grammar, over tables and histories that are random too, equal DataFusion's batch result
//! after every step. What fails is cut down and printed as a pipeline, its SQL and its rows: kept as a file in
//! `tests/random_sql/`, it is a test of its own.
//!
//! The usual run takes the first seeds. `RANDOM_SQL_CASES=5000 RANDOM_SQL_SEED=1000 cargo test --test suite random_sql` runs
//! more of them; `RANDOM_SQL_SHOW=1` prints each query first.

mod calls;
mod case;
mod expression;
mod failing;
mod grammar;
mod node;
mod shrink;
mod tables;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::FutureExt;
use milepost::plan::{BatchTable, TableSchemas, run_batch};
use milepost::state::{Delta, Table};

use crate::oracle::{Random, compiled, lines};

use case::Case;
use grammar::Grammar;
use tables::{Row, Step, TableShape};

/// How a case ended.
enum Outcome {
    Equal,
    /// Milepost refuses the query, or DataFusion can't run it.
    Refused(String),
    Wrong(String),
}

/// One random query over random tables with a random history.
fn case(seed: u64) -> Case {
    let mut random = Random(seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
    let tables = tables::tables(&mut random);
    let mut grammar = Grammar::new(&tables);
    let (query, failing) = if random.below(6) == 0 {
        let (query, failing) = grammar.failing(&mut random, 3);
        (query, Some(failing))
    } else {
        (grammar.query(&mut random, 4), None)
    };
    let history = tables::history(&mut random, &tables);
    Case { tables, query, failing, history }
}

async fn run(case: &Case) -> Outcome {
    match AssertUnwindSafe(stepped(case)).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            Outcome::Wrong(format!("a panic: {}", text.unwrap_or_default()))
        }
    }
}

async fn stepped(case: &Case) -> Outcome {
    let sources: TableSchemas =
        case.tables.iter().map(|table| (Arc::from(table.name.as_str()), table.schema())).collect();
    let jobs = vec![("job".to_owned(), case.query.sql())];
    let mut circuit = match compiled(&jobs, &sources).await {
        Ok(circuit) => circuit,
        Err(problems) => return Outcome::Refused(problems),
    };
    let mut table = Table::new(Arc::clone(&circuit.jobs()[0].schema), Vec::new()).expect("a table of these types");
    let mut held: Vec<Vec<Row>> = vec![Vec::new(); case.tables.len()];
    let mut failed = 0;
    for (number, step) in case.history.iter().enumerate() {
        let deltas: Vec<Delta> =
            case.tables.iter().zip(&step.changes).map(|(table, changes)| table.delta(changes)).collect();
        tables::apply(&mut held, step);
        let expected = match batch(case, &case.query.batch_sql(), &held, step).await {
            Ok(batches) => lines(&batches),
            Err(error) => return Outcome::Refused(error),
        };
        let output = match circuit.step(&deltas, step.watermark) {
            Ok(output) => output,
            Err(error) => return Outcome::Wrong(format!("step {number}: {error}")),
        };
        failed += output.errors.iter().map(|error| error.weight).sum::<i64>();
        if let Some(what) = wrong_errors(case, failed, &held, step).await {
            return Outcome::Wrong(format!("step {number}: {what}: {:?}", output.errors.first()));
        }
        if let Err(error) = table.apply(&output.jobs[0]) {
            return Outcome::Wrong(format!("step {number}: {error}"));
        }
        let actual = lines(&table.batches().expect("rows can be read"));
        if actual != expected {
            let (actual, expected) = (actual.join("\n"), expected.join("\n"));
            return Outcome::Wrong(format!("step {number}\ncircuit:\n{actual}\nbatch:\n{expected}"));
        }
    }
    Outcome::Equal
}

/// What is wrong with the number of error rows that stand.
async fn wrong_errors(case: &Case, failed: i64, held: &[Vec<Row>], step: &Step) -> Option<String> {
    match &case.failing {
        None if failed == 0 => None,
        None => Some("an error row where the batch has none".to_owned()),
        Some(failing::Failing::Groups) => None,
        Some(failing::Failing::Rows(count)) => {
            let expected = lines(&batch(case, &count.sql(), held, step).await.ok()?);
            (expected != [failed.to_string()]).then(|| format!("{failed} error rows, and {expected:?} rows that fail"))
        }
    }
}

/// What DataFusion returns over the rows that are there. A panic in it is a query that it can't run.
async fn batch(case: &Case, sql: &str, held: &[Vec<Row>], step: &Step) -> Result<Vec<RecordBatch>, String> {
    let table = |(table, rows): (&TableShape, &Vec<Row>)| BatchTable {
        name: Arc::from(table.name.as_str()),
        schema: table.schema(),
        batches: vec![table.batch(rows)],
    };
    let inputs: Vec<BatchTable> = case.tables.iter().zip(held).map(table).collect();
    let run = AssertUnwindSafe(run_batch(&inputs, sql, step.watermark)).catch_unwind().await;
    match run {
        Ok(Ok((_, batches))) => Ok(batches),
        Ok(Err(error)) => Err(format!("{sql}: {error}")),
        Err(_) => Err(format!("{sql}: DataFusion panics")),
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Failures that a run collects before it stops.
const FAILURES_MAX: usize = 8;

#[tokio::test]
async fn random_queries_equal_recomputation_after_every_step() {
    let (first, cases) = (number("RANDOM_SQL_SEED", 1), number("RANDOM_SQL_CASES", 300));
    let show = number("RANDOM_SQL_SHOW", 0) > 0;
    let mut refused: Vec<String> = Vec::new();
    let mut failures: Vec<String> = Vec::new();
    for seed in first..first + cases {
        let case = case(seed);
        if show {
            println!("{seed}: {}", case.query.sql());
        }
        match run(&case).await {
            Outcome::Equal => {}
            Outcome::Refused(why) => refused.push(format!("seed {seed}: {why}")),
            Outcome::Wrong(what) => {
                let case = shrink::cut_down(case).await;
                let what = match run(&case).await {
                    Outcome::Wrong(what) => what,
                    _ => what,
                };
                failures.push(format!("seed {seed}: {what}\n\n{}", case.printed()));
                if failures.len() == FAILURES_MAX {
                    break;
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n════\n"));
    let share = refused.len() as u64 * 100 / cases.max(1);
    if show {
        println!("{} refused:\n{}", refused.len(), refused.join("\n"));
    }
    assert!(share <= 10, "{share} % of the queries were refused:\n{}", refused.join("\n"));
}

#[tokio::test]
async fn cases_that_failed_once_equal_recomputation() {
    for (name, case) in case::kept() {
        match run(&case).await {
            Outcome::Equal => {}
            Outcome::Refused(why) => panic!("{name} is refused: {why}"),
            Outcome::Wrong(what) => panic!("{name}: {what}"),
        }
    }
}

/// The harness bites: a batch that says something else is noticed, and cut down to what shows it.
#[tokio::test]
async fn a_wrong_answer_is_found_and_cut_down() {
    let mut found = 0;
    for seed in 1..=40 {
        let mut case = case(seed);
        case.failing = None;
        // The job sees no row whose first column is null; the batch does.
        let table = case.tables[0].clone();
        let (column, kind) = table.columns[0].clone();
        let job = format!("SELECT {column} AS c FROM {} WHERE {column} IS NOT NULL", table.name);
        let batch = format!("SELECT {column} AS c FROM {}", table.name);
        let piece = node::Piece::Either { job, batch };
        case.query = node::Node::query(vec![("c".to_owned(), kind)], vec![piece]);
        if !matches!(run(&case).await, Outcome::Wrong(_)) {
            continue;
        }
        found += 1;
        let case = shrink::cut_down(case).await;
        let rows: usize = case.history.iter().flat_map(|step| &step.changes).map(Vec::len).sum();
        assert_eq!(rows, 1, "one row shows it:\n{}", case.printed());
        let read = Case::parse(&case.printed());
        assert!(matches!(run(&read).await, Outcome::Wrong(_)), "a kept case fails as the printed one does");
    }
    assert!(found > 5, "the mistake is noticed");
}
