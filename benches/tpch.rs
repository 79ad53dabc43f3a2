//! TPC-H as jobs: what a batch of 10,000 rows costs when the tables are nearly empty and when they are full, what a batch of
//! changes then costs, and how much is held.
//!
//! Each of the 22 queries is a circuit of its own, so that the figures are its own and one query's state is in memory at a
//! time; `TOGETHER=1` makes one circuit of all of them, as a pipeline would, which shares what they have in common. The rows of
//! the tables that a query reads arrive interleaved, 10,000 a batch, in a random order. Then batches take 5,000 rows away,
//! spread over the tables, and the next bring them back. Early is the first tenth of the batches (of at least three), late
//! the last. At the end the answer is compared with DataFusion's, and the ratio of the mean batch to that one run is printed.
//!
//! `SCALE` in the environment is the scale factor in hundredths (100: one, with 8.6 million rows), `QUERIES=q01,q06` a choice
//! of queries.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a bench reads clocks, prints its figures, and knows how large its numbers are"
)]

mod support;
#[path = "../tests/support/tpch.rs"]
mod tpch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use milepost::circuit::Circuit;
use milepost::plan::{BatchTable, TableSchemas, run_batch};
use milepost::state::{Delta, Table};
use support::{Random, circuit, lines, median, resident_bytes, setting};
use tpch::{Tables, queries, tables};
use tpchgen::text::TextPool;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 10_000;
/// Batches that take rows away, and as many that bring them back.
const CHANGES: usize = 10;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let scale = setting("SCALE", 100) as f64 / 100.0;
    let tables = tables(scale, TextPool::get_or_init_default());
    let rows: usize = tables.iter().map(|(_, rows)| rows.num_rows()).sum();
    println!("tpch: scale factor {scale}, {rows} rows, batches of {BATCH}");
    let chosen = std::env::var("QUERIES").unwrap_or_default();
    let jobs: Vec<(String, String)> = queries()
        .into_iter()
        .filter(|(name, _)| chosen.is_empty() || chosen.split(',').any(|wanted| wanted == name))
        .collect();
    if setting("TOGETHER", 0) == 1 {
        measure("together", &jobs, &tables).await;
        return;
    }
    for job in jobs {
        let name = job.0.clone();
        measure(&name, &[job], &tables).await;
    }
}

/// What was measured of a circuit.
#[derive(Default)]
struct Figures {
    loads: Vec<Duration>,
    changes: Vec<Duration>,
}

async fn measure(name: &str, jobs: &[(String, String)], tables: &Tables) {
    let before = resident_bytes();
    let mut running = Running::new(jobs, tables).await;
    let mut figures = Figures::default();
    let order = interleaved(tables, &running.reads);
    for part in order.chunks(BATCH) {
        figures.loads.push(running.step(tables, part, 1));
    }
    let mut random = Random(3);
    for _ in 0..CHANGES {
        let some: Vec<Place> = (0..BATCH / 2).map(|_| order[random.below(order.len())]).collect();
        let some = without_repetitions(some);
        figures.changes.push(running.step(tables, &some, -1));
        figures.changes.push(running.step(tables, &some, 1));
    }
    let resident = resident_bytes().saturating_sub(before);
    let (batch, answers) = running.once(jobs, tables).await;
    assert_eq!(running.answers(), answers, "{name}: the circuit's answer is DataFusion's");
    report(name, &figures, &running.circuit, resident, batch);
}

fn report(name: &str, figures: &Figures, circuit: &Circuit, resident: u64, once: Duration) {
    let tenth = (figures.loads.len() / 10).max(3).min(figures.loads.len());
    let milliseconds = |times: &[Duration]| median(times.to_vec()).as_secs_f64() * 1e3;
    let early = milliseconds(&figures.loads[..tenth]);
    let late = milliseconds(&figures.loads[figures.loads.len() - tenth..]);
    let changed = milliseconds(&figures.changes);
    let (rows, bytes) =
        circuit.describe().iter().fold((0, 0), |(rows, bytes), node| (rows + node.held.rows, bytes + node.held.bytes));
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "tpch: {name}: early {early:.2} ms, late {late:.2} ms, ratio {:.1}; changes of 5,000 rows {changed:.2} ms; \
         batch by DataFusion {:.0} ms, ratio {:.0}; holds {rows} rows, {:.0} MiB counted, {:.0} MiB resident",
        late / early,
        once.as_secs_f64() * 1e3,
        once.as_secs_f64() * 1e3 / late,
        mebibytes(bytes as u64),
        mebibytes(resident),
    );
}

/// A row: its table, and its number there.
type Place = (usize, u32);

/// The rows of some tables in a random order.
fn interleaved(tables: &Tables, reads: &[bool]) -> Vec<Place> {
    let read = tables.iter().enumerate().filter(|&(table, _)| reads[table]);
    let mut all: Vec<Place> =
        read.flat_map(|(table, (_, rows))| (0..rows.num_rows() as u32).map(move |row| (table, row))).collect();
    let mut random = Random(7);
    for place in (1..all.len()).rev() {
        all.swap(place, random.below(place + 1));
    }
    all
}

/// The same rows with texts of their own, as a decoder makes them: what is taken from a table shares all of its texts.
fn alone(rows: &RecordBatch) -> RecordBatch {
    let column = |column: &ArrayRef| -> ArrayRef {
        column.as_string_view_opt().map_or_else(|| Arc::clone(column), |texts| Arc::new(texts.gc()))
    };
    RecordBatch::try_new(rows.schema(), rows.columns().iter().map(column).collect()).expect("the same columns")
}

fn without_repetitions(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_unstable();
    places.dedup();
    places
}

/// A circuit and the tables of its jobs.
struct Running {
    circuit: Circuit,
    results: Vec<Table>,
    /// For each source whether a job reads it.
    reads: Vec<bool>,
}

impl Running {
    async fn new(jobs: &[(String, String)], tables: &Tables) -> Self {
        let sources: TableSchemas = tables.iter().map(|(name, rows)| (Arc::clone(name), rows.schema())).collect();
        let jobs: Vec<(&str, &str)> = jobs.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).collect();
        let circuit = circuit(&sources, &jobs).await;
        let table = |job: &milepost::circuit::CompiledJob| Table::new(Arc::clone(&job.schema), Vec::new());
        let results = circuit.jobs().iter().map(|job| table(job).expect("a table")).collect();
        let read = |name: &Arc<str>| circuit.jobs().iter().any(|job| job.reads.iter().any(|read| **read == **name));
        let reads = tables.iter().map(|(name, _)| read(name)).collect();
        Self { circuit, results, reads }
    }

    /// Steps the circuit with these rows, and brings its jobs' tables up to date.
    fn step(&mut self, tables: &Tables, places: &[Place], weight: i64) -> Duration {
        let deltas: Vec<Delta> = (0..tables.len())
            .map(|table| {
                let rows: UInt32Array =
                    places.iter().filter(|place| place.0 == table).map(|&(_, row)| Some(row)).collect();
                let rows = alone(&take_record_batch(&tables[table].1, &rows).expect("rows that there are"));
                let weights = vec![weight; rows.num_rows()];
                Delta::new(rows, weights)
            })
            .collect();
        let started = Instant::now();
        let output = self.circuit.step(&deltas, None).expect("a step");
        for (result, delta) in self.results.iter_mut().zip(&output.jobs) {
            result.apply(delta).expect("a table takes its job's changes");
        }
        let spent = started.elapsed();
        assert!(output.errors.is_empty(), "{:?}", output.errors.first());
        spent
    }

    fn answers(&self) -> Vec<Vec<String>> {
        self.results.iter().map(|table| lines(&table.batches().expect("rows"))).collect()
    }

    /// The answers of DataFusion, in the order of [`Self::answers`], and how long they took together.
    async fn once(&self, jobs: &[(String, String)], tables: &Tables) -> (Duration, Vec<Vec<String>>) {
        let input = |(name, rows): &(Arc<str>, RecordBatch)| BatchTable {
            name: Arc::clone(name),
            schema: rows.schema(),
            batches: vec![rows.clone()],
        };
        let inputs: Vec<BatchTable> = tables.iter().map(input).collect();
        let mut spent = Duration::ZERO;
        let mut answers = Vec::new();
        for job in self.circuit.jobs() {
            let started = Instant::now();
            let (_, batches) = run_batch(&inputs, &jobs[job.job].1, None).await.expect("DataFusion runs the query");
            spent += started.elapsed();
            answers.push(lines(&batches));
        }
        (spent, answers)
    }
}
