//! One step of a circuit for 10,000 changed rows, at state of 10 thousand and of 1 million rows.
//!
//! The figure is the ratio of the two: work follows the change if it stays near 1, that is, well below the 100 by which
//! the state grows. What is left above 1 is what the memory behind a larger index costs.
//!
//! A turn replaces 5,000 rows by 5,000 others, spread over the whole state, or takes that back; so the state keeps its
//! size. Groups and keys have five rows each whatever the size, except where the name says otherwise.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a bench reads clocks, prints its figures, and knows how large its numbers are"
)]

mod support;

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use milepost::circuit::{Circuit, Intake};
use milepost::decode::{Decoder, Format};
use milepost::definition::contract::{Contract, utc_timestamp};
use milepost::definition::pipeline::Identity;
use milepost::plan::TableSchemas;
use milepost::state::Delta;
use support::engine::{NARROW, compiled};
use support::workload::{Workload, messages};
use support::{Random, circuit, median};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CHANGED: usize = 10_000;
const SIZES: [usize; 2] = [10_000, 1_000_000];
/// How many different changes take turns, so that they reach all of the state.
const CHANGES: usize = 8;

/// Name, groups (none: one for five rows), SELECT over `a` and `b`, whose rows have the columns of [`schema`].
const JOBS: [(&str, Option<usize>, &str); 8] = [
    ("inner join", None, "SELECT a.line, a.quantity, b.note FROM a JOIN b ON a.key = b.key AND a.line = b.line"),
    ("left join", None, "SELECT a.line, a.quantity, b.note FROM a LEFT JOIN b ON a.key = b.key AND a.line = b.line"),
    ("group sums", None, "SELECT key, sum(quantity) AS total, count(*) AS lines FROM a GROUP BY key"),
    ("group sums, 100 groups", Some(100), "SELECT key, sum(quantity) AS total, count(*) AS lines FROM a GROUP BY key"),
    ("min and max", None, "SELECT key, min(at) AS first, max(at) AS last FROM a GROUP BY key"),
    ("min and max, 100 groups", Some(100), "SELECT key, min(at) AS first, max(at) AS last FROM a GROUP BY key"),
    ("first_value", None, "SELECT key, first_value(note ORDER BY at) AS note FROM a GROUP BY key"),
    ("distinct", None, "SELECT DISTINCT key, note FROM a"),
];

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8View, true),
        Field::new("line", DataType::Int64, true),
        Field::new("quantity", DataType::Decimal128(18, 3), true),
        Field::new("at", utc_timestamp(), true),
        Field::new("note", DataType::Utf8View, true),
    ]))
}

/// These rows of a table: row n belongs to group n modulo `groups`, its other columns follow from n and `seed`.
fn rows(numbers: &[usize], groups: usize, seed: u64) -> RecordBatch {
    let random = |row: usize| Random((seed << 32) ^ row as u64).next();
    let texts =
        |text: &dyn Fn(usize) -> String| numbers.iter().map(|&row| Some(text(row))).collect::<StringViewArray>();
    let quantities: Decimal128Array = numbers.iter().map(|&row| Some(i128::from(random(row) % 100_000))).collect();
    let times: TimestampMicrosecondArray = numbers.iter().map(|&row| Some((random(row) >> 20) as i64)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(texts(&|row| format!("shipment-{:08}", row % groups))),
        Arc::new(numbers.iter().map(|&row| Some((row / groups) as i64)).collect::<Int64Array>()),
        Arc::new(quantities.with_precision_and_scale(18, 3).expect("18 digits")),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(texts(&|row| format!("a note of some length, number {}", random(row) % 1_000))),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns of the schema")
}

fn tables() -> TableSchemas {
    ["a", "b"].map(|name| (Arc::from(name), schema())).into()
}

/// A job at its size, with changes that take turns.
struct Turning {
    circuit: Circuit,
    changes: Vec<[Delta; 2]>,
    turn: usize,
}

impl Turning {
    fn new(runtime: &tokio::runtime::Runtime, sql: &str, size: usize, groups: usize) -> Self {
        let mut circuit = runtime.block_on(circuit(&tables(), &[("job", sql)]));
        let numbers: Vec<usize> = (0..size).collect();
        for part in numbers.chunks(CHANGED) {
            // Every tenth row of `a` finds nothing in `b`.
            let matched: Vec<usize> = part.iter().copied().filter(|row| row % 10 != 0).collect();
            let sides = [rows(part, groups, HELD), rows(&matched, groups, HELD)].map(Delta::insertions);
            circuit.step(&sides, None).expect("a step");
        }
        let changes = (0..CHANGES).map(|number| change(size, groups, number)).collect();
        Self { circuit, changes, turn: 0 }
    }

    /// The next change, or what takes it back.
    fn turn(&mut self) -> Duration {
        let delta = self.changes[self.turn / 2 % CHANGES][self.turn % 2].clone();
        self.turn += 1;
        let inputs = [delta, Delta::empty(&schema())];
        let started = Instant::now();
        black_box(self.circuit.step(&inputs, None).expect("a step"));
        started.elapsed()
    }
}

/// Half of the changed rows go, and come with the same key and other values; and the opposite.
fn change(size: usize, groups: usize, number: usize) -> [Delta; 2] {
    let half = CHANGED / 2;
    let mut random = Random(number as u64);
    let mut numbers: Vec<usize> = (0..size).collect();
    for place in 0..half {
        let other = place + random.below(size - place);
        numbers.swap(place, other);
    }
    numbers.truncate(half);
    let (going, coming) = (rows(&numbers, groups, HELD), rows(&numbers, groups, COMING));
    let batch = concat_batches(&schema(), [&going, &coming]).expect("one schema");
    let weights = |going: i64| [vec![going; half], vec![-going; half]].concat();
    [Delta::new(batch.clone(), weights(-1)), Delta::new(batch, weights(1))]
}

/// Seeds of the rows that the state begins with, and of those that come.
const HELD: u64 = 1;
const COMING: u64 = 2;

/// Rows that wait for the watermark: as many come as it passes.
struct Waiting {
    circuit: Circuit,
    size: usize,
    next: usize,
}

impl Waiting {
    fn new(runtime: &tokio::runtime::Runtime, size: usize) -> Self {
        let sql = "SELECT key, line, quantity FROM a WHERE at <= watermark()";
        let circuit = runtime.block_on(circuit(&tables(), &[("job", sql)]));
        let mut waiting = Self { circuit, size, next: 0 };
        while waiting.next < size {
            waiting.turn();
        }
        waiting
    }

    fn turn(&mut self) -> Duration {
        let numbers: Vec<usize> = (self.next..self.next + CHANGED).collect();
        self.next += CHANGED;
        let rows = rows(&numbers, self.size / 5, HELD);
        let mut columns = rows.columns().to_vec();
        let mut times: Vec<i64> = numbers.iter().map(|&row| row as i64).collect();
        let mut random = Random(self.next as u64);
        for place in 0..times.len() {
            times.swap(place, random.below(CHANGED));
        }
        columns[3] = Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"));
        let delta = Delta::insertions(RecordBatch::try_new(schema(), columns).expect("columns of the schema"));
        let watermark = self.next as i64 - self.size as i64;
        let inputs = [delta, Delta::empty(&schema())];
        let started = Instant::now();
        black_box(self.circuit.step(&inputs, Some(watermark)).expect("a step"));
        started.elapsed()
    }
}

/// Intake of events with new ids, one in fifty known; made anew whenever it has grown by a tenth.
struct Deduplicating {
    contract: Arc<Contract>,
    known: Vec<RecordBatch>,
    new: Vec<RecordBatch>,
    intake: Option<Intake>,
    turn: usize,
}

impl Deduplicating {
    fn new(size: usize) -> Self {
        let contract = compiled(NARROW);
        let grown = size + (size / 10).max(CHANGED);
        let workload = Workload::new(grown);
        let mut batches: Vec<RecordBatch> =
            workload.events.chunks(CHANGED).map(|events| decoded(&contract, events)).collect();
        let new = batches.split_off(size / CHANGED);
        Self { contract, known: batches, new, intake: None, turn: 0 }
    }

    fn turn(&mut self) -> Duration {
        if self.turn == self.new.len() {
            self.intake = None;
            self.turn = 0;
        }
        let intake = self.intake.get_or_insert_with(|| {
            let key = self.contract.column_index("event_id").expect("the key");
            let mut intake = Intake::new(&self.contract, &Identity::Append { unique: vec![key] }).expect("an intake");
            for batch in &self.known {
                intake.admit(batch).expect("rows are looked at");
            }
            intake
        });
        let started = Instant::now();
        let admitted = intake.admit(&self.new[self.turn]).expect("rows are looked at");
        black_box(intake.accept(&admitted.rows).expect("rows are taken in"));
        self.turn += 1;
        started.elapsed()
    }
}

fn decoded(contract: &Arc<Contract>, events: &[Bytes]) -> RecordBatch {
    let mut decoder = Decoder::new(Arc::clone(contract), Format::Json);
    let mut rejections = Vec::new();
    for message in messages("MILESTONES", events) {
        decoder.decode(&message, &mut rejections);
    }
    assert!(rejections.is_empty(), "{:?}", rejections.first());
    decoder.finish()
}

/// Runs one case at both sizes; `make` gives what takes one turn.
fn compare<T>(criterion: &mut Criterion, name: &str, make: impl Fn(usize) -> T, turn: impl Fn(&mut T) -> Duration) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1_500));
    group.throughput(Throughput::Elements(CHANGED as u64));
    let mut medians = Vec::new();
    for size in SIZES {
        let mut made: Option<T> = None;
        let times = RefCell::new(Vec::new());
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let made = made.get_or_insert_with(|| make(size));
            bencher.iter_custom(|turns| {
                let turns: Vec<Duration> = (0..turns).map(|_| turn(made)).collect();
                times.borrow_mut().extend(&turns);
                turns.iter().sum()
            });
        });
        medians.push(median(times.into_inner()).as_secs_f64() * 1e3);
    }
    group.finish();
    if let [small, large] = medians[..]
        && small > 0.0
    {
        println!(
            "step: {name}: {small:.2} ms at {} rows, {large:.2} ms at {}, ratio {:.1}",
            SIZES[0],
            SIZES[1],
            large / small
        );
    }
}

fn step(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for (name, groups, sql) in JOBS {
        compare(criterion, name, |size| Turning::new(&runtime, sql, size, groups.unwrap_or(size / 5)), Turning::turn);
    }
    compare(criterion, "watermark comparison", |size| Waiting::new(&runtime, size), Waiting::turn);
    compare(criterion, "intake, unique", Deduplicating::new, Deduplicating::turn);
}

criterion_group!(benches, step);
criterion_main!(benches);
