//! Sources that retain rows until their key is closed: a model that is nothing but the rule says which rows are accepted, row by
//! row; every table is that of a pipeline that forgets nothing and is sent these rows only; and state is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use milepost::checkpoint::EpochRecord;
use milepost::decode::Format;
use milepost::definition;
use milepost::definition::pipeline::Pipeline;
use milepost::runtime::engine::{Engine, EpochInput};
use milepost::types::{Epoch, RawMessage};

use super::oracle::{Random, lines};
use super::program::folder;

const CONTRACT: &str = r#"{"$id": "row.v1", "type": "object", "required": ["ref", "line", "at", "kind", "value"], "properties": {
    "ref": {"type": "string"}, "line": {"type": "integer"}, "at": {"type": "string", "format": "date-time"},
    "kind": {"type": "string"}, "value": {"type": "integer"}}}"#;

const JOBS: [(&str, &str); 7] = [
    ("groups", "SELECT ref, median(value) AS m, count(DISTINCT line) AS n, min(at) AS first FROM a GROUP BY ref"),
    (
        "joined",
        "SELECT a.ref, a.line, a.value, b.value AS other FROM a LEFT JOIN b ON a.ref = b.ref AND a.line = b.line",
    ),
    (
        "without",
        "SELECT ref, line, at FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.ref = a.ref AND b.value < a.value)",
    ),
    ("placed", "SELECT ref, line, row_number() OVER (PARTITION BY ref ORDER BY at, line, value) AS place FROM a"),
    ("above", "SELECT ref, median(other) AS m, sum(value) AS s FROM joined GROUP BY ref"),
    (
        "both",
        "SELECT ref, median(value) AS m FROM (SELECT ref, value FROM a UNION ALL SELECT ref, value FROM b) AS x GROUP BY ref",
    ),
    ("whole", "SELECT a.ref, b.line FROM a FULL JOIN b ON a.ref = b.ref"),
];

fn pipeline(folder: &Path, name: &str, retain: [&str; 2]) -> Arc<Pipeline> {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("writable");
    write("row.json", CONTRACT);
    let mut text = format!(
        "pipeline: keys\nclock: event_time\nsources:\n  \
         a: {{ contract: row.json, files: a.ndjson, event_time: {{ column: at, lateness: 5s }}{} }}\n  \
         b: {{ contract: row.json, files: b.ndjson, upsert: [ref, line]{} }}\njobs:\n",
        retain[0], retain[1]
    );
    for (job, sql) in JOBS {
        write(&format!("{job}.sql"), sql);
        text.push_str(&format!("  {job}: {{ sql: {job}.sql }}\n"));
    }
    write(name, &text);
    let loaded = definition::load(&folder.join(name), &|_| None);
    Arc::new(loaded.map_err(|problems| problems.render(false)).expect("the pipeline can be read"))
}

#[derive(Debug, Clone)]
struct Sent {
    key: u64,
    line: u64,
    /// In seconds.
    at: u64,
    closes: bool,
    value: u64,
}

/// The rule of one source: how long after the row that closes it a key is open yet; none: not at all.
struct Model {
    after: Option<u64>,
    newest: Option<u64>,
    closing: BTreeSet<(u64, u64)>,
    closed: BTreeSet<u64>,
    accepted: usize,
    late: usize,
}

impl Model {
    fn new(after: Option<u64>) -> Self {
        Self { after, newest: None, closing: BTreeSet::new(), closed: BTreeSet::new(), accepted: 0, late: 0 }
    }

    fn accepts(&mut self, row: &Sent) -> bool {
        if self.closed.contains(&row.key) {
            self.late += 1;
            return false;
        }
        self.accepted += 1;
        self.newest = self.newest.max(Some(row.at));
        match (row.closes, self.after) {
            (false, _) => {}
            (true, None) => drop(self.closed.insert(row.key)),
            (true, Some(after)) => drop(self.closing.insert((row.at + after, row.key))),
        }
        let watermark = self.newest.unwrap_or(0);
        let passed: Vec<_> = self.closing.iter().take_while(|(at, _)| at + 5 <= watermark).copied().collect();
        for row in passed {
            self.closing.remove(&row);
            self.closed.insert(row.1);
        }
        true
    }
}

fn message(stream: &str, sequence: u64, row: &Sent) -> RawMessage {
    let (hour, rest) = (row.at / 3_600, row.at % 3_600);
    let kind = if row.closes { "closed" } else { "open" };
    let body = format!(
        r#"{{"ref":"ref-{:04}","line":{},"at":"2026-01-01T{hour:02}:{:02}:{:02}Z","kind":"{kind}","value":{}}}"#,
        row.key,
        row.line,
        rest / 60,
        rest % 60,
        row.value
    );
    RawMessage {
        stream: Arc::from(stream),
        sequence,
        subject: Arc::from(""),
        received_at: None,
        headers: Vec::new(),
        columns: None,
        body: body.into(),
    }
}

async fn engine(pipeline: Arc<Pipeline>) -> Engine {
    let engine = Engine::new(pipeline, &[Format::Json, Format::Json]).await;
    engine.unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

fn step(engine: &mut Engine, messages: Vec<Vec<RawMessage>>) {
    let epoch = Epoch(engine.epoch().0 + 1);
    let record = EpochRecord { epoch, clock_us: None, watermark_us: None, ended: false, inputs: Vec::new() };
    let input = EpochInput { messages, ..EpochInput::default() };
    engine.run_epoch(record, input, &[]).unwrap_or_else(|error| panic!("{}", error.chain()));
}

fn held(engine: &Engine) -> usize {
    engine.circuit().describe().iter().map(|node| node.held.rows).sum()
}

async fn check(after: Option<u64>, seed: u64, rows_max: u64) {
    let work = folder();
    let waits = after.map_or_else(String::new, |after| format!(", after: {after}s"));
    let first = format!(", retain: {{ once: \"kind = 'closed'\", key: [ref]{waits} }}");
    let second = ", retain: { once: \"kind = 'closed'\", key: [ref] }";
    let mut forgetful = engine(pipeline(work.path(), "forgetful.yaml", [&first, second])).await;
    let mut plain = engine(pipeline(work.path(), "plain.yaml", ["", ""])).await;
    let mut models = [Model::new(after), Model::new(None)];
    let mut random = Random(seed);
    let (mut sequence, mut most) = (0, 0);
    // A key is new every other round, gets rows for some twenty rounds, and is then closed by each source.
    for round in 0..300_u64 {
        let mut messages: BTreeMap<&str, Vec<Vec<RawMessage>>> = BTreeMap::new();
        for (source, model) in ["a", "b"].iter().zip(&mut models) {
            let (mut all, mut accepted) = (Vec::new(), Vec::new());
            for _ in 0..random.below(rows_max + 1) {
                let key = (round / 2).saturating_sub(random.below(24));
                let row = Sent {
                    key,
                    line: random.below(4),
                    at: round * 10 + random.below(30),
                    closes: round / 2 > key + 8 && random.below(4) > 0,
                    value: random.below(50) * 2,
                };
                sequence += 1;
                all.push(message(source, sequence, &row));
                if model.accepts(&row) {
                    accepted.push(message(source, sequence, &row));
                }
            }
            messages.entry("all").or_default().push(all);
            messages.entry("accepted").or_default().push(accepted);
        }
        step(&mut forgetful, messages.remove("all").expect("both sources"));
        step(&mut plain, messages.remove("accepted").expect("both sources"));
        let place = format!("after {after:?}, seed {seed}, round {round}");
        let counts: Vec<_> = forgetful.counts().iter().map(|counts| (counts.accepted, counts.late)).collect();
        let expected: Vec<_> = models.iter().map(|model| (model.accepted as u64, model.late as u64)).collect();
        assert_eq!(counts, expected, "{place}");
        if round % 20 == 19 {
            for (job, (name, _)) in JOBS.iter().enumerate() {
                let (actual, expected) = (forgetful.rows_of(job).expect("rows"), plain.rows_of(job).expect("rows"));
                assert_eq!(lines(&actual), lines(&expected), "{name}, {place}");
            }
        }
        if round > 200 {
            most = most.max(held(&forgetful));
        }
    }
    assert!(models.iter().all(|model| model.late > 20), "some rows come after their key is closed");
    let all = held(&plain);
    eprintln!("after {after:?}, at most {rows_max} rows: {most} of {all} rows and groups");
    assert!(most * 4 < all, "{most} of {all} rows and groups");
}

#[tokio::test]
async fn what_comes_after_its_key_is_closed_is_late_and_what_is_forgotten_cannot_be_seen() {
    for (after, seed, rows_max) in [(None, 1, 6), (Some(60), 2, 6), (None, 3, 30), (Some(0), 4, 8)] {
        check(after, seed, rows_max).await;
    }
}
