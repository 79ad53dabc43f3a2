//! Nexmark: queries 0 to 22 as the jobs of one pipeline, over events that come in a slightly wrong order while the watermark
//! moves, equal DataFusion's answers over the events so far.

#[path = "../support/nexmark.rs"]
mod data;

use std::sync::Arc;

use arrow::array::RecordBatch;
use milepost::plan::{BatchTable, run_batch};
use milepost::state::{Delta, Table};
use nexmark::event::Event;

use crate::oracle::{Random, circuit, lines};
use data::{TABLES, events, latest, queries, rows, schemas, side_input};

const SEED: u64 = 30;
/// Events, and how many of them in a second of their own time.
const EVENTS: usize = 6_000;
const RATE: usize = 100;
/// Events in a step, at most.
const STEP: u64 = 700;
/// How far the watermark stays behind the newest event.
const LATENESS: i64 = 500_000;

#[tokio::test]
async fn every_nexmark_query_equals_its_batch_answer_while_the_watermark_moves() {
    let mut random = Random(SEED);
    let jobs = queries();
    let sources = schemas();
    let mut circuit = circuit(&jobs, &sources).await;
    let mut tables: Vec<Table> = circuit
        .jobs()
        .iter()
        .map(|job| Table::new(Arc::clone(&job.schema), Vec::new()).expect("a table of these types"))
        .collect();
    let all: Vec<Event> = events(RATE).take(EVENTS).collect();
    let mut held: Vec<Vec<RecordBatch>> = vec![Vec::new(); TABLES.len()];
    let mut shown = vec![false; jobs.len()];
    let (mut from, mut step, mut watermark) = (0, 0, None);
    while from < all.len() {
        let to = (from + usize::try_from(random.below(STEP)).expect("small") + 1).min(all.len());
        let mut batches = rows(&all[from..to], from).to_vec();
        batches.push(if step == 0 { side_input() } else { RecordBatch::new_empty(side_input().schema()) });
        if random.below(3) > 0 {
            watermark = watermark.max(latest(&all[..to]).map(|time| time - LATENESS));
        }
        let deltas: Vec<Delta> = batches.iter().cloned().map(Delta::insertions).collect();
        let output = circuit.step(&deltas, watermark).expect("a step");
        assert!(output.errors.is_empty(), "an error row: {:?}", output.errors.first());
        for (table, delta) in tables.iter_mut().zip(&output.jobs) {
            table.apply(delta).expect("a table takes its job's changes");
        }
        held.iter_mut().zip(batches).for_each(|(held, batch)| held.push(batch));
        from = to;
        step += 1;
        if step % 4 != 0 && from < all.len() {
            continue;
        }
        let inputs: Vec<BatchTable> = sources
            .iter()
            .zip(&held)
            .map(|((name, schema), rows)| BatchTable {
                name: Arc::clone(name),
                schema: Arc::clone(schema),
                batches: rows.clone(),
            })
            .collect();
        for (job, table) in circuit.jobs().iter().zip(&tables) {
            let (name, sql) = &jobs[job.job];
            let (_, batches) =
                run_batch(&inputs, sql, watermark).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let (expected, actual) = (lines(&batches), lines(&table.batches().expect("rows")));
            assert!(
                expected == actual,
                "{name}, seed {SEED}, step {step}, watermark {watermark:?}\ncircuit:\n{}\nbatch:\n{}",
                actual.join("\n"),
                expected.join("\n")
            );
            shown[job.job] |= !actual.is_empty();
        }
    }
    let empty: Vec<&String> =
        jobs.iter().zip(&shown).filter(|(_, shown)| !**shown).map(|((name, _), _)| name).collect();
    assert!(empty.is_empty(), "these queries showed no row at all: {empty:?}");
}
