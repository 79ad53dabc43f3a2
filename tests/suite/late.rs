//! Rows of an upsert source that come behind its watermark: judged one by one, in stream order, before they may replace
//! anything, and told by a model that is nothing but the rule, whatever the epochs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use milepost::checkpoint::EpochRecord;
use milepost::decode::Format;
use milepost::definition;
use milepost::definition::pipeline::Pipeline;
use milepost::plan::run_batch;
use milepost::runtime::engine::{Engine, EpochInput};
use milepost::runtime::report::SourceCounts;
use milepost::types::{Epoch, RawMessage};

use super::oracle::{Random, lines};
use super::program::folder;

const CONTRACT: &str = r#"{"$id": "row.v1", "type": "object", "required": ["id", "at", "value"], "properties": {
    "id": {"type": "string"}, "at": {"type": "string", "format": "date-time"}, "value": {"type": "integer"}}}"#;

/// How far a row may be behind, in seconds.
const LATENESS: u64 = 20;

fn pipeline(folder: &Path, late: &str) -> Pipeline {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("writable");
    write("row.json", CONTRACT);
    write("job.sql", "SELECT id, value FROM a");
    write(
        "late.yaml",
        &format!(
            "pipeline: late\nclock: event_time\nsources:\n  a: {{ contract: row.json, files: a.ndjson, upsert: [id], \
             event_time: {{ column: at, lateness: {LATENESS}s }}, late: {late} }}\njobs: {{ job: {{ sql: job.sql, key: [id] }} }}\n"
        ),
    );
    let loaded = definition::load(&folder.join("late.yaml"), &|_| None);
    loaded.map_err(|problems| problems.render(false)).expect("the pipeline can be read")
}

/// A row: its key, its second, its value.
type Sent = (u64, u64, u64);

/// The latest value of each key among the rows that are not late, and how many are.
fn model(sent: &[Sent], late_apply: bool) -> (BTreeMap<u64, u64>, u64) {
    let (mut newest, mut late, mut latest) = (0, 0, BTreeMap::new());
    for &(id, at, value) in sent {
        if at + LATENESS < newest && !late_apply {
            late += 1;
        } else {
            latest.insert(id, value);
        }
        newest = newest.max(at);
    }
    (latest, late)
}

fn message(sequence: u64, &(id, at, value): &Sent) -> RawMessage {
    let (minute, second) = (at / 60, at % 60);
    let body = format!(r#"{{"id":"id-{id:03}","at":"2026-01-31T12:{minute:02}:{second:02}Z","value":{value}}}"#);
    RawMessage {
        stream: Arc::from("a"),
        sequence,
        subject: Arc::from(""),
        received_at: None,
        headers: Vec::new(),
        columns: None,
        body: body.into(),
    }
}

#[tokio::test]
async fn a_late_row_of_an_upsert_source_replaces_nothing() {
    let work = folder();
    for late in ["apply", "divert", "drop"] {
        let pipeline = Arc::new(pipeline(work.path(), late));
        for (seed, rows_max) in [(1, 1), (2, 7), (3, 300)] {
            let mut random = Random(11);
            let sent: Vec<Sent> = (0..300_u64)
                .map(|place| (random.below(12), (place * 5 + random.below(90)).saturating_sub(60), random.below(1_000)))
                .collect();
            let mut engine = Engine::new(Arc::clone(&pipeline), &[Format::Json]).await.expect("it compiles");
            let mut sizes = Random(seed);
            let mut start = 0;
            while start < sent.len() {
                let end = sent.len().min(start + 1 + usize::try_from(sizes.below(rows_max)).expect("small"));
                let epoch = Epoch(engine.epoch().0 + 1);
                let record =
                    EpochRecord { epoch, clock_us: None, watermark_us: None, ended: false, inputs: Vec::new() };
                let messages = (start as u64 + 1..).zip(&sent[start..end]).map(|(at, row)| message(at, row)).collect();
                let input = EpochInput { messages: vec![messages], ..EpochInput::default() };
                engine.run_epoch(record, input, &[]).unwrap_or_else(|error| panic!("{epoch}: {}", error.chain()));
                start = end;
                let (latest, behind) = model(&sent[..end], late == "apply");
                let expected: Vec<String> = latest.iter().map(|(id, value)| format!("id-{id:03} | {value}")).collect();
                let place = format!("late: {late}, seed {seed}, {end} rows");
                assert_eq!(lines(&engine.rows_of(0).expect("rows")), expected, "{place}");
                let counts = SourceCounts {
                    read: end as u64,
                    accepted: end as u64 - behind,
                    late: behind,
                    ..SourceCounts::default()
                };
                assert_eq!(engine.counts(), [counts], "{place}");
                let newest = sent[..end].iter().map(|row| row.1).max().unwrap_or(0);
                let watermark = 1_769_860_800_000_000 + (i64::try_from(newest).expect("small") - 20) * 1_000_000;
                assert_eq!(engine.watermark(), Some(watermark), "{place}");
            }
            let shown = engine.query_tables().expect("tables");
            let (_, rows) = run_batch(&shown, "SELECT count(*) FROM milepost.late", None).await.expect("a count");
            let (_, behind) = model(&sent, late == "apply");
            assert!(late == "apply" || behind > 10, "{behind} are late");
            assert_eq!(lines(&rows), [if late == "divert" { behind } else { 0 }.to_string()]);
        }
    }
}
