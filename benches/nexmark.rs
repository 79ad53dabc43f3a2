//! Nexmark as jobs: how many events a second each query takes, and what DataFusion needs to compute it once at the end.
//!
//! Each query is a circuit of its own, stepped with 10,000 events at a time; the watermark moves with the newest event. The
//! figure is the ratio of all steps together, with the table that they keep up to date after each of them, to DataFusion's one
//! run over all events. The answers must be the same.
//!
//! `EVENTS` in the environment says how many events, `QUERIES=q05,q09` a choice of queries.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a bench reads clocks, prints its figures, and knows how large its numbers are"
)]

#[path = "../tests/support/nexmark.rs"]
mod nexmark_data;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use milepost::circuit::Circuit;
use milepost::plan::{BatchTable, run_batch};
use milepost::state::{Delta, Table};
use nexmark::event::Event;
use nexmark_data::{TABLES, events, latest, queries, rows, schemas, side_input};
use support::{circuit, lines, median, setting};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 10_000;
/// Events in a second of their own time: Nexmark's usual.
const RATE: usize = 10_000;

/// The rows of one step, table by table, and the watermark behind them.
struct Step {
    rows: Vec<RecordBatch>,
    watermark: Option<i64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count = setting("EVENTS", 1_000_000);
    println!("nexmark: {count} events, batches of {BATCH}");
    let steps = steps(count);
    let chosen = std::env::var("QUERIES").unwrap_or_default();
    for (name, sql) in queries() {
        if chosen.is_empty() || chosen.split(',').any(|wanted| wanted == name) {
            measure(&name, &sql, &steps, count).await;
        }
    }
}

fn steps(count: usize) -> Vec<Step> {
    let mut generator = events(RATE);
    let mut steps: Vec<Step> = Vec::new();
    let mut watermark = None;
    for from in (0..count).step_by(BATCH) {
        let events: Vec<Event> = generator.by_ref().take(BATCH.min(count - from)).collect();
        watermark = watermark.max(latest(&events));
        let mut rows = rows(&events, from).to_vec();
        rows.push(if from == 0 { side_input() } else { RecordBatch::new_empty(side_input().schema()) });
        steps.push(Step { rows, watermark });
    }
    steps
}

async fn measure(name: &str, sql: &str, steps: &[Step], count: usize) {
    let mut circuit = circuit(&schemas(), &[(name, sql)]).await;
    let mut table = Table::new(Arc::clone(&circuit.jobs()[0].schema), Vec::new()).expect("a table");
    let times: Vec<Duration> = steps.iter().map(|step| take(&mut circuit, &mut table, step)).collect();
    let spent: Duration = times.iter().sum();
    let input = |(number, &name): (usize, &&str)| BatchTable {
        name: Arc::from(name),
        schema: steps[0].rows[number].schema(),
        batches: steps.iter().map(|step| step.rows[number].clone()).collect(),
    };
    let inputs: Vec<BatchTable> = TABLES.iter().enumerate().map(input).collect();
    let watermark = steps.last().and_then(|step| step.watermark);
    let started = Instant::now();
    let (_, batches) = run_batch(&inputs, sql, watermark).await.expect("DataFusion runs the query");
    let once = started.elapsed();
    assert!(lines(&batches) == lines(&table.batches().expect("rows")), "{name}: the answers are the same");
    let tenth = (times.len() / 10).max(1);
    let milliseconds = |times: &[Duration]| median(times.to_vec()).as_secs_f64() * 1e3;
    let (early, late) = (milliseconds(&times[..tenth]), milliseconds(&times[times.len() - tenth..]));
    println!(
        "nexmark: {name}: {:.0} thousand events/s, ratio {:.1} to DataFusion once; a batch early {early:.2} ms, late {late:.2} \
         ms, ratio {:.1}",
        count as f64 / spent.as_secs_f64() / 1e3,
        spent.as_secs_f64() / once.as_secs_f64(),
        late / early,
    );
}

fn take(circuit: &mut Circuit, table: &mut Table, step: &Step) -> Duration {
    let deltas: Vec<Delta> = step.rows.iter().cloned().map(Delta::insertions).collect();
    let started = Instant::now();
    let output = circuit.step(&deltas, step.watermark).expect("a step");
    table.apply(&output.jobs[0]).expect("a table takes its job's changes");
    let spent = started.elapsed();
    assert!(output.errors.is_empty(), "{:?}", output.errors.first());
    spent
}
