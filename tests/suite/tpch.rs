//! TPC-H: all 22 queries as the jobs of one pipeline, over tables that come row by row in a random interleaving, go in part and
//! come again, equal DataFusion's answers over the rows that are there.

#[path = "../support/tpch.rs"]
mod data;

use std::sync::{Arc, LazyLock};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use milepost::circuit::Circuit;
use milepost::plan::{BatchTable, TableSchemas, run_batch};
use milepost::state::{Delta, Table};
use tpchgen::distribution::Distributions;
use tpchgen::text::TextPool;

use crate::oracle::{Random, circuit, lines};
use data::{queries, tables};

const SCALE: f64 = 0.01;
const SEED: u64 = 20;
const STEPS: u64 = 20;
/// The step after which all answers are looked at, beside the last.
const LOOK: u64 = 8;

/// A smaller pool of the words that comments are made of: the specification's own takes long to make.
static TEXT: LazyLock<TextPool> = LazyLock::new(|| TextPool::new(4 << 20, Distributions::static_default()));

/// A table, and which of its rows are there.
struct Stream {
    name: Arc<str>,
    rows: RecordBatch,
    waiting: Vec<u32>,
    held: Vec<u32>,
}

impl Stream {
    fn new(name: Arc<str>, rows: RecordBatch, random: &mut Random) -> Self {
        let mut waiting: Vec<u32> = (0..u32::try_from(rows.num_rows()).expect("a small table")).collect();
        for place in (1..waiting.len()).rev() {
            waiting.swap(place, position(random, place + 1));
        }
        Self { name, rows, waiting, held: Vec::new() }
    }

    /// Some rows come and some of the held ones go; in the last step all that wait come.
    fn change(&mut self, random: &mut Random, last: bool) -> Delta {
        let share = self.rows.num_rows() / 12;
        let coming = if last { self.waiting.len() } else { position(random, 2 * share + 2).min(self.waiting.len()) };
        let going = if last { 0 } else { position(random, share + 2).min(self.held.len()) };
        let mut gone = Vec::with_capacity(going);
        for _ in 0..going {
            gone.push(self.held.swap_remove(position(random, self.held.len())));
        }
        let come = self.waiting.split_off(self.waiting.len() - coming);
        let delta = self.delta(&gone, &come);
        self.held.extend(come);
        for row in gone {
            let place = position(random, self.waiting.len() + 1);
            self.waiting.insert(place, row);
        }
        delta
    }

    fn delta(&self, gone: &[u32], come: &[u32]) -> Delta {
        let weights = [vec![-1; gone.len()], vec![1; come.len()]].concat();
        Delta::new(self.at(&[gone, come].concat()), weights)
    }

    fn at(&self, rows: &[u32]) -> RecordBatch {
        take_record_batch(&self.rows, &UInt32Array::from(rows.to_vec())).expect("rows that there are")
    }
}

fn position(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).expect("below a position")
}

/// The circuit of all queries, and the table of each.
struct Answers {
    circuit: Circuit,
    tables: Vec<Table>,
}

impl Answers {
    async fn new(jobs: &[(String, String)], sources: &TableSchemas) -> Self {
        let circuit = circuit(jobs, sources).await;
        let table = |job: &milepost::circuit::CompiledJob| Table::new(Arc::clone(&job.schema), Vec::new());
        let tables = circuit.jobs().iter().map(|job| table(job).expect("a table of these types")).collect();
        Self { circuit, tables }
    }

    fn step(&mut self, deltas: &[Delta]) {
        let output = self.circuit.step(deltas, None).expect("a step");
        assert!(output.errors.is_empty(), "an error row: {:?}", output.errors.first());
        for (table, delta) in self.tables.iter_mut().zip(&output.jobs) {
            table.apply(delta).expect("a table takes its job's changes");
        }
    }

    /// What each query's answer must be, and is not.
    async fn differences(&self, jobs: &[(String, String)], streams: &[Stream]) -> Vec<String> {
        let inputs: Vec<BatchTable> = streams
            .iter()
            .map(|stream| BatchTable {
                name: Arc::clone(&stream.name),
                schema: stream.rows.schema(),
                batches: vec![stream.at(&stream.held)],
            })
            .collect();
        let mut found = Vec::new();
        for (job, table) in self.circuit.jobs().iter().zip(&self.tables) {
            let (name, sql) = &jobs[job.job];
            let (_, batches) = run_batch(&inputs, sql, None).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let (expected, actual) = (lines(&batches), lines(&table.batches().expect("rows")));
            if expected != actual {
                found.push(format!("{name}\ncircuit:\n{}\nbatch:\n{}", actual.join("\n"), expected.join("\n")));
            }
        }
        found
    }
}

#[tokio::test]
async fn every_tpch_query_equals_its_batch_answer_while_rows_come_and_go() {
    let mut random = Random(SEED);
    let jobs = queries();
    let mut streams: Vec<Stream> =
        tables(SCALE, &TEXT).into_iter().map(|(name, rows)| Stream::new(name, rows, &mut random)).collect();
    let sources: TableSchemas = streams.iter().map(|stream| (Arc::clone(&stream.name), stream.rows.schema())).collect();
    let mut answers = Answers::new(&jobs, &sources).await;
    for step in 0..STEPS {
        let last = step == STEPS - 1;
        let deltas: Vec<Delta> = streams.iter_mut().map(|stream| stream.change(&mut random, last)).collect();
        answers.step(&deltas);
        if last || step == LOOK {
            let found = answers.differences(&jobs, &streams).await;
            assert!(found.is_empty(), "seed {SEED}, step {step}\n{}", found.join("\n\n"));
        }
    }
    for (job, table) in answers.circuit.jobs().iter().zip(&answers.tables) {
        assert!(!table.is_empty(), "{} has an answer", job.name);
    }
    let gone: Vec<Delta> = streams.iter().map(|stream| stream.delta(&stream.held, &[])).collect();
    streams.iter_mut().for_each(|stream| stream.held.clear());
    answers.step(&gone);
    let found = answers.differences(&jobs, &streams).await;
    assert!(found.is_empty(), "without rows\n{}", found.join("\n\n"));
}
