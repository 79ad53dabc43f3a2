//! Histories: after every epoch each equals what the obvious means make of the tables that the epochs left and of their
//! clocks; jobs over them equal their SQL, run once over them; the logged epochs give the same again.

mod program;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use milepost::checkpoint::EpochRecord;
use milepost::circuit::{EpochTimes, compile};
use milepost::decode::Format;
use milepost::definition;
use milepost::definition::contract::utc_timestamp;
use milepost::definition::pipeline::Pipeline;
use milepost::plan::{BatchTable, HistoryTable, run_batch};
use milepost::runtime::engine::{Engine, EpochInput};
use milepost::state::{Delta, Table};
use milepost::types::{Epoch, Micros, RawMessage};

use super::oracle::{self, Random, Row, lines};
use super::program::folder;

const PIPELINE: &str = "pipeline: kept
clock: event_time
sources:
  events: { contract: event.json, files: a.ndjson, unique: [id], event_time: at }
  prices: { contract: price.json, files: b.ndjson, upsert: { key: [item], order_by: rank }, deleted: gone, history: true }
  stock:
    contract: stock.json
    files: c.ndjson
    upsert: [site, item]
    snapshot: { by: [site], version: as_of }
    history: { from: since, to: until }
jobs:
";

const CONTRACTS: [(&str, &str); 3] = [
    (
        "event.json",
        r#""required": ["id", "at"], "properties": {"id": {"type": "string"}, "item": {"type": "string"},
        "at": {"type": "string", "format": "date-time"}}"#,
    ),
    (
        "price.json",
        r#""required": ["item"], "properties": {"item": {"type": "string"}, "price": {"type": "integer"},
        "rank": {"type": "integer"}, "gone": {"type": "boolean"}}"#,
    ),
    (
        "stock.json",
        r#""required": ["site", "item", "as_of"], "properties": {"site": {"type": "string"},
        "item": {"type": "string"}, "as_of": {"type": "integer"}, "quantity": {"type": "integer"}}"#,
    ),
];

/// Name, SQL, what else is said of the job.
const JOBS: [(&str, &str, &str); 9] = [
    ("told", "SELECT id, item, at FROM events", "key: [id]"),
    (
        "by_item",
        "SELECT item, count(*) AS n, max(at) AS last FROM told GROUP BY item HAVING item IS NOT NULL",
        "key: [item], history: true",
    ),
    (
        "items",
        "SELECT e.item FROM told AS e WHERE EXISTS (SELECT 1 FROM prices AS p WHERE p.item = e.item AND p.price > 1)",
        "history: { to: gone_at }",
    ),
    (
        "open",
        "SELECT e.id, e.item FROM told AS e WHERE NOT EXISTS (SELECT 1 FROM prices AS p WHERE p.item = e.item AND p.price > 2)",
        "history: true",
    ),
    (
        "priced",
        "SELECT e.id, p.price, p._sequence AS told FROM told AS e LEFT JOIN prices_history AS p ON p.item = e.item AND coalesce(p.valid_from < e.at, true) AND coalesce(e.at <= p.valid_to, true)",
        "key: [id]",
    ),
    (
        "versions",
        "SELECT item, count(*) AS n, count(valid_to) AS closed, max(valid_to) AS last FROM prices_history GROUP BY item",
        "key: [item], history: true",
    ),
    ("times", "SELECT item, n, opened_at, closed_at FROM by_item_history WHERE closed_at <= watermark()", ""),
    (
        "changes",
        "SELECT v.item, v.n, s.site, s.quantity FROM versions_history AS v LEFT JOIN stock_history AS s ON s.item = v.item AND s.since = v.opened_at",
        "",
    ),
    ("stood", "SELECT item, gone_at, count(*) AS n FROM items_history GROUP BY item, gone_at", ""),
];

/// Of each history its table, and how many columns make a version.
const HISTORIES: [(&str, &str, usize); 6] = [
    ("prices_history", "prices", 4),
    ("stock_history", "stock", 4),
    ("by_item_history", "by_item", 3),
    ("items_history", "items", 1),
    ("open_history", "open", 2),
    ("versions_history", "versions", 4),
];

fn pipeline(folder: &Path) -> Pipeline {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("writable");
    for (name, properties) in CONTRACTS {
        write(name, &format!(r#"{{"$id": "{name}", "type": "object", {properties}}}"#));
    }
    let mut text = PIPELINE.to_owned();
    for (name, sql, more) in JOBS {
        write(&format!("{name}.sql"), sql);
        text.push_str(&format!("  {name}: {{ sql: {name}.sql, {more} }}\n"));
    }
    write("kept.yaml", &text);
    let loaded = definition::load(&folder.join("kept.yaml"), &|_| None);
    loaded.map_err(|problems| problems.render(false)).expect("the pipeline can be read")
}

async fn engine(pipeline: &Arc<Pipeline>) -> Engine {
    let engine = Engine::new(Arc::clone(pipeline), &[Format::Json, Format::Json, Format::Json]).await;
    engine.map_err(|problems| problems.render(false)).expect("the pipeline can be compiled")
}

/// What one epoch reads of each source.
type Piece = [Vec<RawMessage>; 3];

fn event(random: &mut Random, newest: &mut u64) -> String {
    *newest += random.below(3);
    let at = newest.saturating_sub(random.below(5));
    let item = if random.below(9) == 0 { "null".to_owned() } else { format!("\"item-{}\"", random.below(4)) };
    let item = if item == "null" { String::new() } else { format!(r#","item":{item}"#) };
    format!(r#"{{"id":"id-{}","at":"2026-01-31T12:{:02}:{:02}Z"{item}}}"#, random.below(90), at / 60, at % 60)
}

fn price(random: &mut Random) -> String {
    let gone = random.below(4) == 0;
    let (item, price, rank) = (random.below(4), random.below(4), random.below(3));
    format!(r#"{{"item":"item-{item}","price":{price},"rank":{rank},"gone":{gone}}}"#)
}

fn stock(random: &mut Random, version: &mut u64) -> String {
    *version += random.below(2);
    let (site, item, quantity) = (random.below(2), random.below(3), random.below(3));
    let as_of = version.saturating_sub(random.below(4) / 3) / 4;
    format!(r#"{{"site":"site-{site}","item":"item-{item}","as_of":{as_of},"quantity":{quantity}}}"#)
}

/// Epochs over all sources; of the first ones no event says what time it is, and many leave the clock where it was.
fn pieces(seed: u64, count: usize) -> Vec<Piece> {
    let mut random = Random(seed);
    let (mut newest, mut version) = (0, 0);
    let mut sent = [0_u64; 3];
    let mut pieces = Vec::new();
    for epoch in 0..count {
        let events = if epoch < 3 || random.below(3) == 0 { 0 } else { random.below(4) };
        let bodies = [
            (0..events).map(|_| event(&mut random, &mut newest)).collect::<Vec<_>>(),
            (0..random.below(4)).map(|_| price(&mut random)).collect(),
            (0..random.below(5)).map(|_| stock(&mut random, &mut version)).collect(),
        ];
        let mut source = 0;
        pieces.push(bodies.map(|bodies| {
            let messages = messages(sent[source] + 1, bodies);
            sent[source] += messages.len() as u64;
            source += 1;
            messages
        }));
    }
    pieces
}

fn messages(first: u64, bodies: Vec<String>) -> Vec<RawMessage> {
    let message = |(body, sequence): (String, u64)| RawMessage {
        stream: Arc::from("s"),
        sequence,
        subject: Arc::from(""),
        received_at: None,
        headers: Vec::new(),
        columns: None,
        body: body.into(),
    };
    bodies.into_iter().zip(first..).map(message).collect()
}

fn run(engine: &mut Engine, piece: &Piece, logged: Option<&EpochRecord>) -> EpochRecord {
    let epoch = Epoch(engine.epoch().0 + 1);
    let record = EpochRecord { epoch, clock_us: None, watermark_us: None, ended: false, inputs: Vec::new() };
    let input = EpochInput {
        messages: piece.to_vec(),
        clock: logged.and_then(|record| record.clock_us),
        ..EpochInput::default()
    };
    let outcome = engine.run_epoch(record, input, &[]);
    outcome.unwrap_or_else(|error| panic!("epoch {epoch}: {}", error.chain())).0
}

fn shown(engine: &Engine) -> BTreeMap<String, BatchTable> {
    let tables = engine.query_tables().expect("tables can be read");
    tables.into_iter().map(|table| (table.name.to_string(), table)).collect()
}

/// Some columns of a table's rows, as sorted lines.
fn some_columns(table: &BatchTable, columns: impl Fn(usize) -> Vec<usize>) -> Vec<String> {
    let columns = columns(table.schema.fields().len());
    let batches: Vec<RecordBatch> =
        table.batches.iter().map(|batch| batch.project(&columns).expect("columns of the table")).collect();
    lines(&batches)
}

/// The tables that the epochs left, by clock: of each clock the last.
#[derive(Default)]
struct Past(Vec<(Option<Micros>, BTreeMap<String, usize>)>);

impl Past {
    fn note(&mut self, clock: Option<Micros>, rows: &[String]) {
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        rows.iter().for_each(|row| *counted.entry(row.clone()).or_insert(0) += 1);
        self.0.retain(|(known, _)| *known != clock);
        self.0.push((clock, counted));
    }

    /// The lines of the history: of each row and each number of its copies the clocks between which there were as many.
    fn history(&self) -> Vec<String> {
        let text = |clock: Option<Micros>| {
            let time = clock.and_then(chrono::DateTime::from_timestamp_micros);
            time.map_or_else(|| "null".to_owned(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
        };
        let rows: std::collections::BTreeSet<&String> = self.0.iter().flat_map(|(_, rows)| rows.keys()).collect();
        let mut history = Vec::new();
        for row in rows {
            let copies = |at: usize| self.0[at].1.get(row).copied().unwrap_or(0);
            let most = (0..self.0.len()).map(copies).max().unwrap_or(0);
            for copy in 1..=most {
                let mut since: Option<Option<Micros>> = None;
                for (at, (clock, _)) in self.0.iter().enumerate() {
                    match (since, copies(at) >= copy) {
                        (None, true) => since = Some(*clock),
                        (Some(from), false) => {
                            history.push(format!("{row} | {} | {}", text(from), text(*clock)));
                            since = None;
                        }
                        _ => {}
                    }
                }
                history.extend(since.map(|from| format!("{row} | {} | null", text(from))));
            }
        }
        history.sort();
        history
    }
}

/// Whether each history is what its table's past says, and each job its SQL over all tables.
async fn check(engine: &Engine, pasts: &mut BTreeMap<&str, Past>, place: &str) {
    let tables = shown(engine);
    for (name, of, content) in HISTORIES {
        let past = pasts.entry(of).or_default();
        past.note(engine.clock(), &some_columns(&tables[of], |_| (0..content).collect()));
        let version = |columns| (0..content).chain([columns - 2, columns - 1]).collect();
        assert_eq!(some_columns(&tables[name], version), past.history(), "{place}: `{name}`");
    }
    let tables: Vec<BatchTable> = tables.into_values().collect();
    for (position, job) in engine.circuit().jobs().iter().enumerate() {
        // The rows of `events` are not kept.
        if &*job.name == "told" {
            continue;
        }
        let (_, sql, _) = JOBS.iter().find(|(name, ..)| *name == &*job.name).expect("a job of the pipeline");
        let oracle = run_batch(&tables, sql, engine.watermark()).await;
        let (_, expected) = oracle.unwrap_or_else(|error| panic!("{place}: `{}`: {error}", job.name));
        assert_eq!(lines(&engine.rows_of(position).expect("rows")), lines(&expected), "{place}: `{}`", job.name);
    }
}

fn all_lines(engine: &Engine) -> BTreeMap<String, Vec<String>> {
    let tables = shown(engine).into_iter().filter(|(name, _)| !name.starts_with("milepost."));
    tables.map(|(name, table)| (name, lines(&table.batches))).collect()
}

#[tokio::test]
async fn every_history_follows_from_the_tables_that_the_epochs_left_and_from_their_clocks() {
    let work = folder();
    let pipeline = Arc::new(pipeline(work.path()));
    for seed in 1..=6 {
        let pieces = pieces(seed, 60);
        let mut engine = engine(&pipeline).await;
        let (mut log, mut pasts) = (Vec::new(), BTreeMap::new());
        for (epoch, piece) in pieces.iter().enumerate() {
            log.push(run(&mut engine, piece, None));
            check(&engine, &mut pasts, &format!("seed {seed}, epoch {}", epoch + 1)).await;
        }
        let told = all_lines(&engine);
        for (name, ..) in HISTORIES {
            let closed = told[name].iter().filter(|row| !row.ends_with("null")).count();
            assert!(closed > 3, "seed {seed}: `{name}` has {closed} versions that are over");
        }
        let since_ever = told["prices_history"].iter().filter(|row| row.contains(" | null | 2026")).count();
        assert!(since_ever > 0, "seed {seed}: some price stood before the first event");
        let mut again = self::engine(&pipeline).await;
        for (piece, record) in pieces.iter().zip(&log) {
            assert_eq!(&run(&mut again, piece, Some(record)), record, "seed {seed}");
        }
        assert_eq!(all_lines(&again), told, "seed {seed}: the logged epochs, run again");
    }
}

#[tokio::test]
async fn how_the_rows_of_one_clock_are_cut_into_epochs_cannot_be_seen() {
    let work = folder();
    let pipeline = Arc::new(pipeline(work.path()));
    for seed in 11..=13 {
        let pieces = pieces(seed, 60);
        let mut engine = engine(&pipeline).await;
        let mut merged: Vec<(Option<Micros>, Piece)> = Vec::new();
        for piece in pieces {
            let clock = run(&mut engine, &piece, None).clock_us;
            match merged.last_mut().filter(|(known, _)| *known == clock) {
                Some((_, whole)) => {
                    for (whole, piece) in whole.iter_mut().zip(piece) {
                        whole.extend(piece);
                    }
                }
                None => merged.push((clock, piece)),
            }
        }
        assert!(merged.len() < 45, "seed {seed}: {} clocks", merged.len());
        let mut in_one = self::engine(&pipeline).await;
        for (clock, piece) in &merged {
            assert_eq!(run(&mut in_one, piece, None).clock_us, *clock);
        }
        let versions = |engine: &Engine| {
            let tables = shown(engine);
            HISTORIES.map(|(name, _, content)| {
                some_columns(&tables[name], |columns| (0..content).chain([columns - 2, columns - 1]).collect())
            })
        };
        assert_eq!(versions(&in_one), versions(&engine), "seed {seed}");
    }
}

/// A clock, rows with their weights, and what the history holds then.
type Step<'a> = (Option<i64>, &'a [(&'a str, i64, i64)], &'a [&'a str]);

/// Steps a history of the table `a`, of which the key makes a version, and shows what it holds after each step: key and
/// line, since when, until when. A row is its key and line, with a weight.
fn script(steps: &[Step<'_>]) {
    let columns = oracle::schema().fields().iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>();
    let times = ["since", "until"].map(|name| Field::new(name, utc_timestamp(), true));
    let schema = Arc::new(Schema::new(columns.into_iter().chain(times).collect::<Vec<_>>()));
    let history = HistoryTable { of: "a".into(), name: "h".into(), content: 1, schema: Arc::clone(&schema) };
    let circuit = compile(&oracle::tables(), &[], &[history], &|_| unreachable!("there is no job"));
    let mut circuit = circuit.map_err(|problems| problems.render(false)).expect("a history compiles");
    let mut table = Table::new(schema, Vec::new()).expect("a table of these types");
    for (number, &(clock, rows, expected)) in (1..).zip(steps) {
        let row = |&(key, line, _): &(&str, i64, i64)| Row {
            key: Some(key.to_owned()),
            line: Some(line),
            quantity: None,
            flag: None,
            at: None,
            note: None,
        };
        let batch = oracle::batch(&rows.iter().map(row).collect::<Vec<_>>());
        let delta = Delta::new(batch, rows.iter().map(|&(.., weight)| weight).collect());
        let times = EpochTimes { clock: clock.map(|second| second * 1_000_000), watermark: None };
        let output = circuit.step(&[delta], times).expect("a step");
        table.apply(&output.histories[0]).expect("applies");
        let batches = table.batches().expect("rows");
        let shown: Vec<RecordBatch> =
            batches.iter().map(|batch| batch.project(&[0, 1, 6, 7]).expect("columns")).collect();
        let shown: Vec<String> =
            lines(&shown).iter().map(|line| line.replace("1970-01-01T00:00:0", "").replace('Z', "")).collect();
        assert_eq!(shown, expected, "step {number}");
    }
}

#[test]
fn a_row_that_changes_closes_and_one_that_is_told_again_does_not() {
    script(&[
        (None, &[("a", 1, 1)], &["a | 1 | null | null"]),
        // Changed and gone before there is any time: it never stood.
        (None, &[("a", 1, -1), ("b", 2, 1)], &["b | 2 | null | null"]),
        (Some(1), &[("c", 3, 1)], &["b | 2 | null | null", "c | 3 | 1 | null"]),
        // The same content from elsewhere.
        (Some(2), &[("c", 3, -1), ("c", 4, 1)], &["b | 2 | null | null", "c | 3 | 1 | null"]),
        (Some(3), &[("b", 2, -1), ("d", 5, 1)], &["b | 2 | null | 3", "c | 3 | 1 | null", "d | 5 | 3 | null"]),
        // At one clock what goes and comes back was never away, and what comes and goes was never there.
        (Some(3), &[("b", 6, 1), ("d", 5, -1)], &["b | 2 | null | null", "c | 3 | 1 | null"]),
        (Some(3), &[("b", 6, -1)], &["b | 2 | null | 3", "c | 3 | 1 | null"]),
        // At another clock it is another version, with the columns of the row that told of it.
        (Some(4), &[("b", 7, 1), ("c", 4, -1)], &["b | 2 | null | 3", "b | 7 | 4 | null", "c | 3 | 1 | 4"]),
        // A clock never falls.
        (Some(2), &[("b", 7, -1)], &["b | 2 | null | 3", "c | 3 | 1 | 4"]),
    ]);
}

#[test]
fn of_equal_rows_the_last_that_came_goes_first() {
    script(&[
        (Some(1), &[("a", 1, 2)], &["a | 1 | 1 | null", "a | 1 | 1 | null"]),
        (Some(2), &[("a", 1, 1)], &["a | 1 | 1 | null", "a | 1 | 1 | null", "a | 1 | 2 | null"]),
        (Some(3), &[("a", 1, -2)], &["a | 1 | 1 | 3", "a | 1 | 1 | null", "a | 1 | 2 | 3"]),
        (Some(3), &[("a", 1, 1)], &["a | 1 | 1 | null", "a | 1 | 1 | null", "a | 1 | 2 | 3"]),
        (Some(3), &[("a", 1, 2)], &["a | 1 | 1 | null", "a | 1 | 1 | null", "a | 1 | 2 | null", "a | 1 | 3 | null"]),
        (Some(3), &[("a", 1, -3)], &["a | 1 | 1 | 3", "a | 1 | 1 | null", "a | 1 | 2 | 3"]),
        (Some(4), &[("a", 1, -1)], &["a | 1 | 1 | 3", "a | 1 | 1 | 4", "a | 1 | 2 | 3"]),
    ]);
}
