//! The oracle: after every step a job's table equals what DataFusion returns for the same SQL over everything accepted.
//!
//! Each file of `tests/oracle` is one SELECT over the tables `a`, `b` and `c`. Adding a test is adding a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use milepost::circuit::{Circuit, compile};
use milepost::definition::contract::utc_timestamp;
use milepost::definition::pipeline::{BatchLimits, Clock, Job, NatsSettings, Pipeline};
use milepost::diagnostic::SourceText;
use milepost::plan::{BatchTable, TableSchemas, compile_jobs, run_batch};
use milepost::state::{Delta, StateReader, StateWriter, Table};

/// A generator of numbers that is the same everywhere (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A row of any of the three tables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) key: Option<String>,
    pub(crate) line: Option<i64>,
    pub(crate) quantity: Option<i128>,
    pub(crate) flag: Option<bool>,
    pub(crate) at: Option<i64>,
    pub(crate) note: Option<String>,
}

pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8View, true),
        Field::new("line", DataType::Int64, true),
        Field::new("quantity", DataType::Decimal128(18, 3), true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("at", utc_timestamp(), true),
        Field::new("note", DataType::Utf8View, true),
    ]))
}

pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.key.clone()).collect::<StringViewArray>()),
        Arc::new(rows.iter().map(|row| row.line).collect::<Int64Array>()),
        Arc::new(
            rows.iter()
                .map(|row| row.quantity)
                .collect::<Decimal128Array>()
                .with_precision_and_scale(18, 3)
                .expect("18 digits"),
        ),
        Arc::new(rows.iter().map(|row| row.flag).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.at).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| row.note.clone()).collect::<StringViewArray>()),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns of the schema")
}

pub(crate) fn random_row(random: &mut Random) -> Row {
    let nullable = |random: &mut Random| !random.chance(8);
    Row {
        key: nullable(random).then(|| format!("key-{}", random.below(12))),
        line: nullable(random).then(|| i64::try_from(random.below(4)).expect("small")),
        quantity: nullable(random).then(|| i128::from(random.below(9_000)) - 2_000),
        flag: nullable(random).then(|| random.chance(50)),
        at: nullable(random).then(|| i64::try_from(random.below(1_000)).expect("small") * 60_000_000),
        note: nullable(random).then(|| format!("a rather long note, number {}", random.below(5))),
    }
}

pub(crate) const TABLES: [&str; 3] = ["a", "b", "c"];

pub(crate) fn tables() -> TableSchemas {
    TABLES.iter().map(|&name| (Arc::from(name), schema())).collect()
}

pub(crate) fn pipeline(jobs: &[(String, String)]) -> Pipeline {
    let text = Arc::new(SourceText { path: PathBuf::from("pipeline.yaml"), text: String::new() });
    let job = |(name, sql): &(String, String)| Job {
        name: Arc::from(name.as_str()),
        span: 0..0,
        owner: None,
        description: None,
        slo: None,
        sql: Arc::new(SourceText { path: PathBuf::from(format!("{name}.sql")), text: sql.clone() }),
        key: Vec::new(),
    };
    Pipeline {
        nats: NatsSettings::default(),
        state: None,
        name: "test".to_owned(),
        owner: None,
        description: None,
        slo: None,
        clock: Clock::EventTime,
        sources: Vec::new(),
        jobs: jobs.iter().map(job).collect(),
        sinks: Vec::new(),
        batch: BatchLimits { max_rows: 1_000, max_wait: Duration::from_millis(1) },
        text,
    }
}

pub(crate) async fn circuit(jobs: &[(String, String)], sources: &TableSchemas) -> Circuit {
    compiled(jobs, sources).await.unwrap_or_else(|problems| panic!("{problems}"))
}

/// The circuit of jobs, or what is wrong with them.
pub(crate) async fn compiled(jobs: &[(String, String)], sources: &TableSchemas) -> Result<Circuit, String> {
    let pipeline = pipeline(jobs);
    let render = |problems: milepost::diagnostic::Diagnostics| -> String {
        problems
            .0
            .iter()
            .map(|problem| format!("{}: {} ({:?})\n", problem.file.path.display(), problem.message, problem.help))
            .collect()
    };
    let planned = compile_jobs(&pipeline, sources).await.map_err(render)?;
    compile(sources, &planned, &|job| Arc::clone(&pipeline.jobs[job].sql)).map_err(render)
}

/// The rows of batches as sorted lines of text.
pub(crate) fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("every type can be shown"))
            .collect();
        for row in 0..batch.num_rows() {
            lines.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | "));
        }
    }
    lines.sort();
    lines
}

/// Steps a job through a random history and compares it with the batch result after every step.
async fn check(name: &str, sql: &str, seed: u64, steps: usize, rows_max: u64) -> Result<(), String> {
    let mut random = Random(seed);
    let jobs = vec![("job".to_owned(), sql.to_owned())];
    let mut circuit = compiled(&jobs, &tables()).await.map_err(|problems| format!("{name}: {problems}"))?;
    let mut table = Table::new(Arc::clone(&circuit.jobs()[0].schema), Vec::new()).expect("a table of these types");
    let mut held: Vec<Vec<Row>> = vec![Vec::new(); TABLES.len()];
    let mut watermark: Option<i64> = None;
    for step in 0..steps {
        // Every other history goes on in a circuit that takes up the state of the one before.
        if seed % 2 == 0 && random.chance(30) {
            circuit = taken_up(&circuit, &jobs).await;
        }
        let deltas: Vec<Delta> = held.iter_mut().map(|rows| random_delta(&mut random, rows, rows_max)).collect();
        if random.chance(40) {
            watermark = Some(watermark.unwrap_or(0) + i64::try_from(random.below(300)).expect("small") * 60_000_000);
        }
        let failed = |error| format!("{name}, seed {seed}, step {step}: {error}");
        let output = circuit.step(&deltas, watermark).map_err(failed)?;
        table.apply(&output.jobs[0]).map_err(failed)?;
        let actual = lines(&table.batches().expect("rows can be read"));
        let expected =
            batch_rows(&held, sql, watermark).await.map_err(|error| format!("{name}, seed {seed}: {error}"))?;
        if actual != expected {
            let place = format!("{name}, seed {seed}, step {step}, watermark {watermark:?}");
            return Err(format!("{place}\n{sql}\ncircuit:\n{}\nbatch:\n{}", actual.join("\n"), expected.join("\n")));
        }
    }
    Ok(())
}

/// A circuit of the same jobs that takes up the state of this one, by way of the bytes of a snapshot.
async fn taken_up(circuit: &Circuit, jobs: &[(String, String)]) -> Circuit {
    let mut next = compiled(jobs, &tables()).await.expect("it was compiled before");
    let mut state = reread(|state| circuit.save(state).expect("every operator can be written"));
    next.load(&mut state).expect("what was written can be taken up");
    state.finish().expect("all of it");
    next
}

/// What is written, read back from its bytes.
pub(crate) fn reread(write: impl FnOnce(&mut StateWriter)) -> StateReader {
    let mut writer = StateWriter::default();
    write(&mut writer);
    let encoded = writer.encode(&|_| false).expect("every piece can be encoded");
    let kept: BTreeMap<String, Bytes> = encoded.new.into_iter().collect();
    StateReader::new(&encoded.root, &mut |name| Ok(kept[name].clone())).expect("the bytes that were written")
}

/// What DataFusion returns for the SQL over the rows of all tables, as sorted lines.
pub(crate) async fn batch_tables(held: &[Vec<Row>], sql: String, watermark: Option<i64>) -> Vec<String> {
    batch_rows(held, &sql, watermark).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub(crate) async fn batch_rows(held: &[Vec<Row>], sql: &str, watermark: Option<i64>) -> Result<Vec<String>, String> {
    let inputs: Vec<BatchTable> = TABLES
        .iter()
        .zip(held)
        .map(|(&name, rows)| BatchTable { name: Arc::from(name), schema: schema(), batches: vec![batch(rows)] })
        .collect();
    let (_, batches) = run_batch(&inputs, sql, watermark).await.map_err(|error| format!("{sql}: {error}"))?;
    Ok(lines(&batches))
}

/// Some rows appear, some of the held ones go, some of both in one delta.
pub(crate) fn random_delta(random: &mut Random, held: &mut Vec<Row>, rows_max: u64) -> Delta {
    let mut rows = Vec::new();
    let mut weights = Vec::new();
    for _ in 0..random.below(rows_max + 1) {
        if !held.is_empty() && random.chance(35) {
            let position = usize::try_from(random.below(held.len() as u64)).expect("small");
            rows.push(held.swap_remove(position));
            weights.push(-1);
        } else {
            let repeated = (!held.is_empty() && random.chance(10)).then(|| held[0].clone());
            let row = repeated.unwrap_or_else(|| random_row(random));
            held.push(row.clone());
            rows.push(row);
            weights.push(1);
        }
    }
    Delta::new(batch(&rows), weights).consolidate().expect("rows of one schema")
}

pub(crate) fn corpus() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the corpus is there").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).expect("readable"))
        })
        .collect()
}

#[tokio::test]
async fn every_job_equals_recomputation_after_every_step() {
    let cases = corpus();
    assert!(cases.len() > 20, "the corpus is there");
    let only = std::env::var("ORACLE_CASE").unwrap_or_default();
    let mut failures = Vec::new();
    for (name, sql) in cases.iter().filter(|(name, _)| name.contains(&only)) {
        for (seed, steps, rows_max) in [(1, 12, 1), (2, 8, 20), (3, 4, 300), (4, 12, 6)] {
            failures.extend(check(name, sql, seed, steps, rows_max).await.err());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[tokio::test]
async fn how_rows_are_cut_into_batches_cannot_be_seen() {
    for (name, sql) in corpus() {
        let mut random = Random(77);
        let rows: Vec<Vec<Row>> =
            (0..TABLES.len()).map(|_| (0..200).map(|_| random_row(&mut random)).collect()).collect();
        let mut results: Vec<Vec<String>> = Vec::new();
        for size in [1, 7, 200] {
            let jobs = vec![("job".to_owned(), sql.clone())];
            let mut circuit = circuit(&jobs, &tables()).await;
            let mut table = Table::new(Arc::clone(&circuit.jobs()[0].schema), Vec::new()).expect("a table");
            for start in (0..200).step_by(size) {
                let deltas: Vec<Delta> =
                    rows.iter().map(|rows| Delta::insertions(batch(&rows[start..(start + size).min(200)]))).collect();
                let watermark = i64::try_from(start + size).expect("small") * 120_000_000;
                let output = circuit.step(&deltas, Some(watermark.min(400 * 60_000_000))).expect("a step");
                table.apply(&output.jobs[0]).expect("applies");
            }
            results.push(lines(&table.batches().expect("rows")));
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{name}: the batch size can be seen");
    }
}
