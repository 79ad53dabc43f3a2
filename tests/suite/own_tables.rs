//! Jobs over Milepost's own tables: after every epoch each equals its SQL, run once over these tables as `query` shows them;
//! what they count is what was sent; and the logged epochs give the same again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use milepost::checkpoint::EpochRecord;
use milepost::decode::Format;
use milepost::definition;
use milepost::definition::pipeline::Pipeline;
use milepost::plan::run_batch;
use milepost::runtime::engine::{Engine, EpochInput};
use milepost::types::{Epoch, RawMessage};

use super::oracle::{Random, lines};
use super::program::folder;

const CONTRACT: &str = r#"{"$id": "row.v1", "type": "object", "required": ["id", "at"], "properties": {
    "id": {"type": "string"}, "at": {"type": "string", "format": "date-time"}, "value": {"type": "integer"}}}"#;

const JOBS: [(&str, &str, &str); 9] = [
    (
        "letters",
        "SELECT source, rule, count(*) AS n, min(sequence) AS first FROM milepost.dead_letters GROUP BY source, rule",
        "source, rule",
    ),
    (
        "letter_texts",
        "SELECT source, sequence, index, text, body, received_at FROM milepost.dead_letters",
        "source, sequence, index",
    ),
    (
        "late_rows",
        "SELECT source, sequence, event_time FROM milepost.late WHERE event_time < watermark()",
        "source, sequence",
    ),
    (
        "counts",
        "SELECT source, sum(read) AS read, sum(accepted) AS accepted, sum(duplicate) AS duplicate, sum(late) AS late, sum(dead_letters) AS dead_letters FROM milepost.intake GROUP BY source",
        "source",
    ),
    (
        "by_epoch",
        "SELECT e.epoch, e.clock, e.ended, i.source, i.accepted FROM milepost.epochs AS e LEFT JOIN milepost.intake AS i ON i.epoch = e.epoch",
        "",
    ),
    (
        "last_epoch",
        "SELECT e.epoch, e.watermark, e.inputs FROM milepost.epochs AS e JOIN milepost.progress AS p ON p.epoch = e.epoch",
        "epoch",
    ),
    ("freshness", "SELECT pipeline, epoch, clock, watermark FROM milepost.progress", "pipeline"),
    ("newest", "SELECT max(epoch) AS epoch, max(watermark) AS watermark FROM milepost.epochs", ""),
    (
        "above",
        "SELECT c.source, c.read, l.rule, l.n, x.value FROM counts AS c LEFT JOIN letters AS l ON l.source = c.source LEFT JOIN x ON x.id = l.rule",
        "",
    ),
];

fn pipeline(folder: &Path) -> Pipeline {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("writable");
    write("row.json", CONTRACT);
    let mut text = "pipeline: own\nclock: event_time\nsources:\n  \
        a: { contract: row.json, files: a.ndjson, unique: [id], event_time: { column: at, lateness: 10s }, late: divert }\n  \
        x: { contract: row.json, files: x.ndjson, upsert: [id] }\njobs:\n"
        .to_owned();
    for (name, sql, key) in JOBS {
        write(&format!("{name}.sql"), sql);
        let key = if key.is_empty() { String::new() } else { format!(", key: [{key}]") };
        text.push_str(&format!("  {name}: {{ sql: {name}.sql{key} }}\n"));
    }
    write("own.yaml", &text);
    let loaded = definition::load(&folder.join("own.yaml"), &|_| None);
    loaded.map_err(|problems| problems.render(false)).expect("the pipeline can be read")
}

async fn engine(pipeline: &Arc<Pipeline>) -> Engine {
    let engine = Engine::new(Arc::clone(pipeline), &[Format::Json, Format::Json]).await;
    engine.map_err(|problems| problems.render(false)).expect("the pipeline can be compiled")
}

/// An event, or something that is none.
fn body(random: &mut Random, newest: &mut u64) -> String {
    match random.below(10) {
        0 => "no JSON".to_owned(),
        1 => r#"{"id":"x"}"#.to_owned(),
        2 => format!(r#"{{"id":"late-{}","at":"2026-01-31T00:00:00Z"}}"#, random.next()),
        _ => {
            *newest += random.below(4);
            let (minute, second, value) = (*newest / 60, *newest % 60, random.below(3));
            let id = random.below(600);
            format!(r#"{{"id":"id-{id}","at":"2026-01-31T12:{minute:02}:{second:02}Z","value":{value}}}"#)
        }
    }
}

fn messages(source: &str, first: u64, bodies: &[String]) -> Vec<RawMessage> {
    let message = |(body, sequence): (&String, u64)| RawMessage {
        stream: Arc::from(source),
        sequence,
        subject: Arc::from(""),
        received_at: Some(1_769_868_000_000_000 + i64::try_from(sequence).expect("small") * 1_000_000),
        headers: Vec::new(),
        columns: None,
        body: body.clone().into(),
    };
    bodies.iter().zip(first..).map(message).collect()
}

/// What one epoch read of `a` and of `x`.
type Piece = (Vec<RawMessage>, Vec<RawMessage>);

fn run(engine: &mut Engine, piece: &Piece, logged: Option<&EpochRecord>) -> EpochRecord {
    let epoch = Epoch(engine.epoch().0 + 1);
    let record = EpochRecord { epoch, clock_us: None, watermark_us: None, ended: false, inputs: Vec::new() };
    let messages = vec![piece.0.clone(), piece.1.clone()];
    let input = EpochInput { messages, clock: logged.and_then(|record| record.clock_us), ..EpochInput::default() };
    let (record, _) =
        engine.run_epoch(record, input, &[]).unwrap_or_else(|error| panic!("epoch {epoch}: {}", error.chain()));
    record
}

fn tables(engine: &Engine) -> BTreeMap<String, Vec<String>> {
    let jobs = engine.circuit().jobs().iter().enumerate();
    jobs.map(|(at, job)| (job.name.to_string(), lines(&engine.rows_of(at).expect("rows")))).collect()
}

/// Cuts what was sent into epochs.
fn cut(sent: &[String], random: &mut Random, rows_max: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut start, mut others) = (0, 0);
    while start < sent.len() {
        let size = usize::try_from(random.below(rows_max + 1)).expect("small");
        let end = sent.len().min(start + size);
        let master: Vec<String> = (0..random.below(2))
            .map(|_| format!(r#"{{"id":"INVALID_JSON","at":"2026-01-31T12:00:00Z","value":{}}}"#, random.below(9)))
            .collect();
        pieces.push((messages("a", start as u64 + 1, &sent[start..end]), messages("x", others + 1, &master)));
        others += master.len() as u64;
        start = end;
    }
    pieces
}

#[tokio::test]
async fn jobs_over_own_tables_equal_recomputation_and_run_again_from_the_log() {
    let work = folder();
    let pipeline = Arc::new(pipeline(work.path()));
    let mut totals: Vec<Vec<String>> = Vec::new();
    for (seed, rows_max) in [(1, 3), (2, 40), (3, 400)] {
        let (mut random, mut newest) = (Random(7), 0);
        let mut sent: Vec<String> = Vec::new();
        while sent.len() < 400 {
            let again = sent.last().filter(|_| random.below(8) == 0).cloned();
            sent.push(again.unwrap_or_else(|| body(&mut random, &mut newest)));
        }
        let pieces = cut(&sent, &mut Random(seed), rows_max);
        let mut engine = engine(&pipeline).await;
        let mut log = Vec::new();
        for piece in &pieces {
            log.push(run(&mut engine, piece, None));
            if rows_max == 3 && log.len() % 10 != 0 {
                continue;
            }
            let shown = engine.query_tables().expect("tables");
            for (name, sql, _) in JOBS {
                let (_, expected) = run_batch(&shown, sql, engine.watermark()).await.expect("the SQL runs");
                assert_eq!(tables(&engine)[name], lines(&expected), "`{name}`, seed {seed}, epoch {}", log.len());
            }
        }
        let tables_now = tables(&engine);
        let counts = engine.counts();
        assert!(counts[0].add_up() && counts[0].read == 400, "{counts:?}");
        let line = |source: &str, at: usize| {
            let c = &counts[at];
            format!("{source} | {} | {} | {} | {} | {}", c.read, c.accepted, c.duplicate, c.late, c.dead_letters)
        };
        assert_eq!(tables_now["counts"], [line("a", 0), line("x", 1)]);
        let shares = [counts[0].duplicate, counts[0].late, counts[0].dead_letters];
        assert!(shares.iter().all(|&count| count > 5), "{shares:?}");
        assert_eq!(tables_now["letter_texts"].len() as u64, counts[0].dead_letters);
        assert_eq!(tables_now["freshness"].len(), 1);
        assert!(tables_now["freshness"][0].starts_with(&format!("own | {} | 2026-01-31T12:", pieces.len())));
        for report in engine.job_reports() {
            assert_eq!((report.errors, report.ambiguous_keys), (0, 0), "`{}`", report.job);
        }
        let mut again = self::engine(&pipeline).await;
        for (piece, record) in pieces.iter().zip(&log) {
            assert_eq!(&run(&mut again, piece, Some(record)), record);
        }
        assert_eq!(tables(&again), tables_now, "after a restart");
        let uncut = ["letters", "letter_texts", "counts", "late_rows"].map(|name| tables_now[name].join("\n"));
        totals.push(uncut[..2].iter().cloned().chain([uncut[2].lines().next().unwrap_or("").to_owned()]).collect());
    }
    assert!(totals.windows(2).all(|pair| pair[0] == pair[1]), "how the input was cut can be seen: {totals:#?}");
}
