//! The oracle, at random: queries from a grammar over random histories of inserts and deletes equal DataFusion's batch result
//! after every step. What fails is cut down and printed as a pipeline, its SQL and its rows.
//!
//! `RANDOM_SQL_CASES=5000 RANDOM_SQL_SEED=1 cargo test --test suite random_sql` runs more of them.

mod grammar;

use std::fmt::Write;
use std::sync::Arc;

use milepost::state::{Delta, Table};
use serde_json::json;

use crate::oracle::{Random, Row, TABLES, batch, batch_rows, compiled, lines, random_row, tables};

use grammar::{Query, query};

/// What changes in each table, row by row, and the watermark.
#[derive(Debug, Clone)]
struct Step {
    watermark: Option<i64>,
    changes: Vec<Vec<(Row, i64)>>,
}

fn history(random: &mut Random) -> Vec<Step> {
    let mut held: Vec<Vec<Row>> = vec![Vec::new(); TABLES.len()];
    let mut watermark = None;
    (0..4)
        .map(|_| {
            let changes = held.iter_mut().map(|rows| changes(random, rows)).collect();
            if random.below(2) == 0 {
                let more = i64::try_from(random.below(400)).expect("small") * 60_000_000;
                watermark = Some(watermark.unwrap_or(0) + more);
            }
            Step { watermark, changes }
        })
        .collect()
}

fn changes(random: &mut Random, held: &mut Vec<Row>) -> Vec<(Row, i64)> {
    (0..random.below(14))
        .map(|_| match held.len() as u64 {
            rows if rows > 0 && random.below(100) < 35 => {
                (held.swap_remove(usize::try_from(random.below(rows)).expect("small")), -1)
            }
            rows => {
                let again = (rows > 0 && random.below(8) == 0).then(|| held[0].clone());
                let row = again.unwrap_or_else(|| random_row(random));
                held.push(row.clone());
                (row, 1)
            }
        })
        .collect()
}

/// How a case ended.
enum Outcome {
    Equal,
    /// Milepost refuses the query, or DataFusion can't run it.
    Refused(String),
    Wrong(String),
}

async fn run(sql: &str, history: &[Step]) -> Outcome {
    let jobs = vec![("job".to_owned(), sql.to_owned())];
    let mut circuit = match compiled(&jobs, &tables()).await {
        Ok(circuit) => circuit,
        Err(problems) => return Outcome::Refused(problems),
    };
    let mut table = Table::new(Arc::clone(&circuit.jobs()[0].schema), Vec::new()).expect("a table of these types");
    let mut held: Vec<Vec<Row>> = vec![Vec::new(); TABLES.len()];
    for (number, step) in history.iter().enumerate() {
        let deltas: Vec<Delta> = step
            .changes
            .iter()
            .map(|changes| {
                let (rows, weights): (Vec<Row>, Vec<i64>) = changes.iter().cloned().unzip();
                Delta::new(batch(&rows), weights).consolidate().expect("rows of one schema")
            })
            .collect();
        for (rows, changes) in held.iter_mut().zip(&step.changes) {
            for (row, weight) in changes {
                if *weight > 0 {
                    rows.push(row.clone());
                } else if let Some(place) = rows.iter().position(|held| held == row) {
                    rows.swap_remove(place);
                }
            }
        }
        let expected = match batch_rows(&held, sql, step.watermark).await {
            Ok(rows) => rows,
            Err(error) => return Outcome::Refused(error),
        };
        let output = match circuit.step(&deltas, step.watermark) {
            Ok(output) => output,
            Err(error) => return Outcome::Wrong(format!("step {number}: {error}")),
        };
        if let Some(error) = output.errors.first() {
            return Outcome::Wrong(format!("step {number}: an error row where the batch has none: {error:?}"));
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

async fn fails(query: &Query, history: &[Step]) -> bool {
    matches!(run(&query.sql(), history).await, Outcome::Wrong(_))
}

/// The case without whatever it fails without, too.
async fn cut_down(mut query: Query, mut history: Vec<Step>) -> (Query, Vec<Step>) {
    'query: loop {
        for less in query.smaller() {
            if fails(&less, &history).await {
                query = less;
                continue 'query;
            }
        }
        break;
    }
    'history: loop {
        let steps = (0..history.len()).map(|step| {
            let mut less = history.clone();
            less[step].changes.iter_mut().for_each(Vec::clear);
            (history[step].changes.iter().any(|changes| !changes.is_empty()), less)
        });
        let rows = history.iter().enumerate().flat_map(|(step, held)| {
            held.changes
                .iter()
                .enumerate()
                .flat_map(move |(table, rows)| (0..rows.len()).map(move |row| (step, table, row)))
        });
        let rows = rows.map(|(step, table, row)| (true, without(&history, step, table, row)));
        for (changed, less) in steps.chain(rows).collect::<Vec<_>>() {
            if changed && holds_what_goes(&less) && fails(&query, &less).await {
                history = less;
                continue 'history;
            }
        }
        break;
    }
    (query, history)
}

/// The history without a change, and without the removal of a row that then never came.
fn without(history: &[Step], step: usize, table: usize, row: usize) -> Vec<Step> {
    let mut less = history.to_vec();
    let (gone, weight) = less[step].changes[table].remove(row);
    if weight > 0 {
        for later in &mut less[step..] {
            let changes = &mut later.changes[table];
            if let Some(place) = changes.iter().position(|(row, weight)| *weight < 0 && *row == gone) {
                changes.remove(place);
                break;
            }
        }
    }
    less
}

/// Whether every row that goes was there.
fn holds_what_goes(history: &[Step]) -> bool {
    let mut held: Vec<Vec<&Row>> = vec![Vec::new(); TABLES.len()];
    for step in history {
        for (rows, changes) in held.iter_mut().zip(&step.changes) {
            for (row, weight) in changes {
                if *weight > 0 {
                    rows.push(row);
                } else {
                    let Some(place) = rows.iter().position(|held| *held == row) else { return false };
                    rows.swap_remove(place);
                }
            }
        }
    }
    true
}

/// The case as files that can be kept.
fn printed(query: &Query, history: &[Step]) -> String {
    let mut text = format!(
        "pipeline: regression\nsources: a, b and c as in tests/suite/oracle.rs\njobs:\n  job: {{ sql: job.sql }}\n\n-- job.sql\n{}\n",
        query.sql()
    );
    for (number, step) in history.iter().enumerate() {
        writeln!(text, "\n# step {number}, watermark {:?}", step.watermark).expect("a text takes text");
        for (table, changes) in TABLES.iter().zip(&step.changes) {
            for (row, weight) in changes {
                let row = json!({
                    "table": table, "weight": weight, "key": row.key, "line": row.line,
                    "quantity": row.quantity.map(|quantity| quantity.to_string()), "flag": row.flag, "at": row.at,
                    "note": row.note,
                });
                writeln!(text, "{row}").expect("a text takes text");
            }
        }
    }
    text
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn random_queries_equal_recomputation_after_every_step() {
    let (first, cases) = (number("RANDOM_SQL_SEED", 1), number("RANDOM_SQL_CASES", 400));
    let mut refused: Vec<String> = Vec::new();
    for seed in first..first + cases {
        let mut random = Random(seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
        let query = query(&mut random, 4);
        let history = history(&mut random);
        match run(&query.sql(), &history).await {
            Outcome::Equal => {}
            Outcome::Refused(why) => refused.push(format!("seed {seed}: {why}")),
            Outcome::Wrong(what) => {
                let (query, history) = cut_down(query, history).await;
                let what = match run(&query.sql(), &history).await {
                    Outcome::Wrong(what) => what,
                    _ => what,
                };
                panic!("seed {seed}: {what}\n\n{}", printed(&query, &history));
            }
        }
    }
    let share = refused.len() as u64 * 100 / cases.max(1);
    assert!(share <= 10, "{share} % of the queries were refused:\n{}", refused.join("\n"));
}
