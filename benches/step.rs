//! One step of a circuit for 10,000 changed rows, at state of 100 thousand, 1 million and 10 million rows.
//!
//! The figure is the ratio of the longest to the shortest of the three: work follows the change if it stays near 1, that is,
//! well below the 100 by which the state grows. What is left above 1 is what the memory behind a larger state costs. One case
//! is in memory at a time; with 10 million rows the largest takes some 6 GB.
//!
//! A turn replaces 5,000 rows by 5,000 others, spread over the whole state, or takes that back; so the state keeps its
//! size. Groups and keys have five rows each whatever the size, except where the name says otherwise.
//!
//! `SIZES=100000,1000000` in the environment says for which sizes; `--` and a part of a name chooses cases.

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

use arrow::array::{
    ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use milepost::circuit::{Circuit, Intake};
use milepost::definition::contract::utc_timestamp;
use milepost::definition::pipeline::Identity;
use milepost::plan::TableSchemas;
use milepost::state::Delta;
use support::engine::compiled;
use support::{Random, circuit, median};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CHANGED: usize = 10_000;
/// How many different changes take turns: what they touch is more than caches hold.
const CHANGES: usize = 32;

/// Jobs over `a` and `b`, whose rows have the columns of [`schema`].
struct Case {
    name: &'static str,
    /// None: a group, or key, for five rows.
    groups: Option<usize>,
    jobs: &'static [&'static str],
}

const fn case(name: &'static str, jobs: &'static [&'static str]) -> Case {
    Case { name, groups: None, jobs }
}

const INNER: &str = "SELECT a.line, a.quantity, b.note FROM a JOIN b ON a.key = b.key AND a.line = b.line";
const LEFT: &str = "SELECT a.line, a.quantity, b.note FROM a LEFT JOIN b ON a.key = b.key AND a.line = b.line";
const SEMI: &str =
    "SELECT line, quantity FROM a WHERE EXISTS (SELECT 1 FROM b WHERE a.key = b.key AND a.line = b.line)";
const SUMS: &str = "SELECT key, sum(quantity) AS total, count(*) AS lines FROM a GROUP BY key";
const EDGES: &str = "SELECT key, min(at) AS first, max(at) AS last FROM a GROUP BY key";

/// What looks up the rows or groups of the keys that change.
const LOOK_UPS: &[Case] = &[
    case("inner join", &[INNER]),
    case("left join", &[LEFT]),
    case("full join", &["SELECT a.quantity, b.note FROM a FULL JOIN b ON a.key = b.key AND a.line = b.line"]),
    case("semi join", &[SEMI]),
    case(
        "anti join",
        &["SELECT line, quantity FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE a.key = b.key AND a.line = b.line)"],
    ),
    case("three joins by one key", &[INNER, LEFT, SEMI]),
    case("group sums", &[SUMS]),
    Case { name: "group sums, 100 groups", groups: Some(100), jobs: &[SUMS] },
    case("distinct", &["SELECT DISTINCT key, note FROM a"]),
    case("count distinct", &["SELECT key, count(DISTINCT note) AS notes FROM a GROUP BY key"]),
];

/// What keeps the rows of a group in order.
const ORDERED: &[Case] = &[
    case("min and max", &[EDGES]),
    Case { name: "min and max, 100 groups", groups: Some(100), jobs: &[EDGES] },
    case("first_value", &["SELECT key, first_value(note ORDER BY at) AS note FROM a GROUP BY key"]),
    case("first 100 rows", &["SELECT key, line, at FROM a ORDER BY at LIMIT 100"]),
];

/// What computes the groups that change anew.
const RECOMPUTED: &[Case] = &[
    case("window", &["SELECT key, line, row_number() OVER (PARTITION BY key ORDER BY at) AS place FROM a"]),
    case("median", &["SELECT key, median(quantity) AS middle FROM a GROUP BY key"]),
];

/// What looks at the change alone.
const STATELESS: &[Case] = &[
    case("filter, projection", &["SELECT key, line + 1 AS next FROM a WHERE quantity > 50"]),
    case("union all", &["SELECT key, quantity FROM a UNION ALL SELECT key, quantity FROM b"]),
    case("unnest", &["SELECT quantity, unnest(make_array(line, line + 1)) AS line FROM a"]),
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
    fn new(runtime: &tokio::runtime::Runtime, case: &Case, size: usize) -> Self {
        let groups = case.groups.unwrap_or(size / 5);
        let jobs: Vec<(String, &str)> =
            case.jobs.iter().enumerate().map(|(job, &sql)| (format!("job_{job}"), sql)).collect();
        let jobs: Vec<(&str, &str)> = jobs.iter().map(|(name, sql)| (name.as_str(), *sql)).collect();
        let mut circuit = runtime.block_on(circuit(&tables(), &jobs));
        for part in by_group(size, groups).chunks(CHANGED) {
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

/// All rows, those of some groups after those of others, so that whole groups come at once.
fn by_group(size: usize, groups: usize) -> Vec<usize> {
    let together = (CHANGED * groups / size).max(1);
    let starts = (0..groups).step_by(together);
    let of_some = |start: usize| {
        let some = start..(start + together).min(groups);
        (0..size.div_ceil(groups)).flat_map(move |line| some.clone().map(move |group| line * groups + group))
    };
    starts.flat_map(of_some).filter(|&row| row < size).collect()
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

/// Rows of the contract of [`KEYED`], in the order of their numbers.
fn keyed(schema: &SchemaRef, numbers: &[usize], seed: u64) -> RecordBatch {
    let random = |row: usize| Random((seed << 32) ^ row as u64).next();
    let numbers = || numbers.iter().copied();
    let zeros = || Arc::new(numbers().map(|_| Some(0)).collect::<Int64Array>());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(numbers().map(|row| Some(format!("event-{row:012}"))).collect::<StringViewArray>()),
        Arc::new(numbers().map(|row| Some((random(row) % 1_000) as i64)).collect::<Int64Array>()),
        Arc::new(
            numbers().map(|row| Some(format!("a note of some length, {}", random(row)))).collect::<StringViewArray>(),
        ),
        new_null_array(schema.field(3).data_type(), numbers().count()),
        Arc::new(numbers().map(|_| Some("STREAM")).collect::<StringViewArray>()),
        Arc::new(numbers().map(|row| Some(row as i64)).collect::<Int64Array>()),
        zeros(),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns).expect("columns of the schema")
}

const KEYED: &str = include_str!("contracts/keyed.json");

/// Intake of rows with new ids, one in fifty known; made anew whenever it has grown by a tenth.
struct Deduplicating {
    size: usize,
    intake: Option<Intake>,
    next: usize,
}

impl Deduplicating {
    fn turn(&mut self) -> Duration {
        if self.next >= self.size + (self.size / 10).max(CHANGED * 10) {
            self.intake = None;
        }
        if self.intake.is_none() {
            self.next = 0;
        }
        let contract = compiled(KEYED);
        let schema = contract.table_schema();
        let intake = self
            .intake
            .get_or_insert_with(|| Intake::new(&contract, &Identity::Append { unique: vec![0] }).expect("an intake"));
        while self.next < self.size {
            let numbers: Vec<usize> = (self.next..self.next + CHANGED).collect();
            intake.admit(&keyed(&schema, &numbers, HELD)).expect("rows are looked at");
            self.next += CHANGED;
        }
        let mut random = Random(self.next as u64);
        let numbers: Vec<usize> = (self.next..self.next + CHANGED)
            .map(|row| if row % 50 == 0 { random.below(self.next) } else { row })
            .collect();
        self.next += CHANGED;
        let rows = keyed(&schema, &numbers, HELD);
        let started = Instant::now();
        let admitted = intake.admit(&rows).expect("rows are looked at");
        black_box(intake.accept(&admitted.rows).expect("rows are taken in"));
        started.elapsed()
    }
}

/// Intake of rows that take the place of others.
struct Upserting {
    schema: SchemaRef,
    intake: Intake,
    size: usize,
    turn: u64,
}

impl Upserting {
    fn new(size: usize) -> Self {
        let contract = compiled(KEYED);
        let schema = contract.table_schema();
        let identity = Identity::Upsert { key: vec![0], order_by: None, deleted: None, snapshot: None };
        let mut intake = Intake::new(&contract, &identity).expect("an intake");
        let numbers: Vec<usize> = (0..size).collect();
        for numbers in numbers.chunks(CHANGED) {
            intake.accept(&keyed(&schema, numbers, HELD)).expect("rows are taken in");
        }
        Self { schema, intake, size, turn: 0 }
    }

    /// 5,000 rows that replace others: 10,000 changes.
    fn turn(&mut self) -> Duration {
        self.turn += 1;
        let mut random = Random(self.turn);
        let numbers: Vec<usize> = (0..CHANGED / 2).map(|_| random.below(self.size)).collect();
        let rows = keyed(&self.schema, &numbers, COMING + self.turn);
        let started = Instant::now();
        black_box(self.intake.accept(&rows).expect("rows are taken in"));
        started.elapsed()
    }
}

/// Runs one case at all sizes; `make` gives what takes one turn.
fn compare<T>(criterion: &mut Criterion, name: &str, make: impl Fn(usize) -> T, turn: impl Fn(&mut T) -> Duration) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_millis(1_500));
    group.throughput(Throughput::Elements(CHANGED as u64));
    let mut medians: Vec<(usize, f64)> = Vec::new();
    for size in sizes() {
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
        medians.push((size, median(times.into_inner()).as_secs_f64() * 1e3));
    }
    group.finish();
    let times = || medians.iter().map(|&(_, time)| time);
    let (shortest, longest) = (times().fold(f64::INFINITY, f64::min), times().fold(0.0, f64::max));
    if shortest > 0.0 && shortest.is_finite() {
        let shown: Vec<String> = medians.iter().map(|(size, time)| format!("{time:.2} ms at {size}")).collect();
        println!("step: {name}: {}, ratio {:.1}", shown.join(", "), longest / shortest);
    }
}

/// How many rows are held.
fn sizes() -> Vec<usize> {
    let named = std::env::var("SIZES").unwrap_or_default();
    let named: Vec<usize> = named.split(',').filter_map(|size| size.parse().ok()).collect();
    if named.is_empty() { vec![100_000, 1_000_000, 10_000_000] } else { named }
}

fn step(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for case in [LOOK_UPS, ORDERED, RECOMPUTED, STATELESS].into_iter().flatten() {
        compare(criterion, case.name, |size| Turning::new(&runtime, case, size), Turning::turn);
    }
    compare(criterion, "watermark comparison", |size| Waiting::new(&runtime, size), Waiting::turn);
    compare(criterion, "intake, upsert", Upserting::new, Upserting::turn);
    let new = |size| Deduplicating { size, intake: None, next: 0 };
    compare(criterion, "intake, unique", new, Deduplicating::turn);
}

criterion_group!(benches, step);
criterion_main!(benches);
