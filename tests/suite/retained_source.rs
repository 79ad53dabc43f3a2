//! Append sources with `unique`, `late` and `retain`: which rows are accepted is told by a model that is nothing but the rules,
//! row by row, whatever the epochs; tables are those of the accepted rows, and state is bounded.

use std::collections::{BTreeMap, HashMap};
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

/// In seconds.
const LATENESS: i64 = 20;

/// A source as it is declared, and how it behaves.
#[derive(Debug, Clone, Copy)]
struct Declared {
    late: &'static str,
    unique: bool,
    /// In seconds.
    retain: Option<i64>,
}

fn pipeline(folder: &Path, declared: Declared) -> Arc<Pipeline> {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("writable");
    write("row.json", CONTRACT);
    write(
        "minutes.sql",
        "SELECT date_trunc('minute', at) AS minute, count(*) AS n, sum(value) AS s, median(value) AS m FROM a GROUP BY 1",
    );
    write("pairs.sql", "SELECT x.id, y.value FROM a AS x JOIN a AS y ON y.at = x.at");
    let unique = if declared.unique { "unique: [id], " } else { "" };
    let retain = declared.retain.map_or_else(String::new, |retain| format!(", retain: {retain}s"));
    write(
        "retain.yaml",
        &format!(
            "pipeline: retain\nclock: event_time\nsources:\n  a: {{ contract: row.json, files: a.ndjson, {unique}\
             event_time: {{ column: at, lateness: {LATENESS}s }}, late: {}{retain} }}\n\
             jobs:\n  minutes: {{ sql: minutes.sql, key: [minute] }}\n  pairs: {{ sql: pairs.sql }}\n",
            declared.late
        ),
    );
    let loaded = definition::load(&folder.join("retain.yaml"), &|_| None);
    Arc::new(loaded.map_err(|problems| problems.render(false)).expect("the pipeline can be read"))
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Sent {
    id: u64,
    /// In seconds.
    at: i64,
    value: i64,
}

/// The rules, row by row.
#[derive(Default)]
struct Model {
    newest: Option<i64>,
    known: HashMap<u64, Sent>,
    accepted: Vec<Sent>,
    counts: SourceCounts,
}

impl Model {
    fn take(&mut self, row: Sent, declared: Declared) {
        let watermark = self.newest.map(|newest| newest - LATENESS);
        let horizon = watermark.zip(declared.retain).map(|(watermark, retain)| watermark - retain);
        let before = |time: i64, bound: Option<i64>| bound.is_some_and(|bound| time < bound);
        self.counts.read += 1;
        let known = self.known.get(&row.id).filter(|known| declared.unique && !before(known.at, horizon));
        match known {
            Some(known) if *known == row => self.counts.duplicate += 1,
            Some(_) => self.counts.dead_letters += 1,
            None => {
                self.known.insert(row.id, row);
                self.newest = self.newest.max(Some(row.at));
                if before(row.at, horizon) || (before(row.at, watermark) && declared.late != "apply") {
                    self.counts.late += 1;
                } else {
                    self.counts.accepted += 1;
                    self.accepted.push(row);
                }
            }
        }
    }

    fn minutes(&self) -> Vec<String> {
        let mut minutes: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for row in &self.accepted {
            minutes.entry(row.at.div_euclid(60)).or_default().push(row.value);
        }
        let line = |(minute, mut values): (i64, Vec<i64>)| {
            values.sort_unstable();
            let (count, sum) = (values.len(), values.iter().sum::<i64>());
            let median = (values[(count - 1) / 2] + values[count / 2]) / 2;
            format!("{} | {count} | {sum} | {median}.0", shown(minute * 60))
        };
        minutes.into_iter().map(line).collect()
    }

    fn pairs(&self) -> usize {
        let mut times: HashMap<i64, usize> = HashMap::new();
        for row in &self.accepted {
            *times.entry(row.at).or_default() += 1;
        }
        times.into_values().map(|rows| rows * rows).sum()
    }
}

/// The seconds since noon of 1 January 2026 as an instant.
fn shown(seconds: i64) -> String {
    let (hour, rest) = (12 + seconds.div_euclid(3_600), seconds.rem_euclid(3_600));
    format!("2026-01-01T{hour:02}:{:02}:{:02}Z", rest / 60, rest % 60)
}

fn message(sequence: u64, row: Sent) -> RawMessage {
    let body = format!(r#"{{"id":"id-{:03}","at":"{}","value":{}}}"#, row.id, shown(row.at), row.value);
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

/// Rows whose time rises by and by, some far behind, some sent again, some with another's id.
fn history(seed: u64, count: u64) -> Vec<Sent> {
    let mut random = Random(seed);
    let mut sent: Vec<Sent> = Vec::new();
    for place in 0..count {
        let small = |number: u64| i64::try_from(number).expect("small");
        let row = Sent {
            id: random.below(count / 8),
            at: (small(place) * 4 + small(random.below(60)) - small(random.below(300)) * small(random.below(2))).max(0),
            value: small(random.below(1_000)) * 2,
        };
        let near = random.below(2) == 0;
        let back = random.below(if near { 12 } else { 1 + sent.len() as u64 });
        let again = sent.iter().rev().nth(usize::try_from(back).expect("small")).copied();
        sent.push(again.filter(|_| random.below(5) == 0).unwrap_or(row));
    }
    sent
}

async fn check(declared: Declared, seed: u64, rows_max: u64) {
    let work = folder();
    let pipeline = pipeline(work.path(), declared);
    let sent = history(seed, 400);
    let mut engine =
        Engine::new(pipeline, &[Format::Json]).await.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let (mut model, mut sizes, mut start, mut most) = (Model::default(), Random(seed + rows_max), 0, 0);
    while start < sent.len() {
        let end = sent.len().min(start + 1 + usize::try_from(sizes.below(rows_max)).expect("small"));
        let record = EpochRecord {
            epoch: Epoch(engine.epoch().0 + 1),
            clock_us: None,
            watermark_us: None,
            ended: false,
            inputs: Vec::new(),
        };
        let messages = (start as u64 + 1..).zip(&sent[start..end]).map(|(at, &row)| message(at, row)).collect();
        let input = EpochInput { messages: vec![messages], ..EpochInput::default() };
        engine.run_epoch(record, input, &[]).unwrap_or_else(|error| panic!("{}", error.chain()));
        sent[start..end].iter().for_each(|&row| model.take(row, declared));
        start = end;
        let place = format!("{declared:?}, seed {seed}, at most {rows_max} rows, {end} sent");
        assert_eq!(engine.counts(), [model.counts], "{place}");
        let minutes = lines(&engine.rows_of(0).expect("rows"));
        assert_eq!(minutes, model.minutes(), "{place}");
        let pairs: usize = engine.rows_of(1).expect("rows").iter().map(|batch| batch.num_rows()).sum();
        assert_eq!(pairs, model.pairs(), "{place}");
        if rows_max < 100 && end > 100 {
            most = most.max(engine.circuit().describe().iter().map(|node| node.held.rows).sum());
        }
    }
    if declared.retain.is_some() && rows_max < 100 {
        assert!(most < 200, "{declared:?}: {most} rows and groups held");
    }
    let shown = engine.query_tables().expect("tables");
    let (_, rows) = run_batch(&shown, "SELECT count(*) FROM milepost.late", None).await.expect("a count");
    let kept = if declared.late == "drop" { 0 } else { model.counts.late };
    assert_eq!(lines(&rows), [kept.to_string()]);
    let late = declared.retain.is_some() || declared.late != "apply";
    assert_eq!(model.counts.late > 10, late, "{declared:?}: {:?}", model.counts);
    assert_eq!(model.counts.duplicate > 10 && model.counts.dead_letters > 10, declared.unique, "{:?}", model.counts);
}

#[tokio::test]
async fn which_rows_are_accepted_depends_on_their_order_only() {
    for late in ["apply", "divert", "drop"] {
        for unique in [true, false] {
            for retain in [None, Some(60)] {
                for (seed, rows_max) in [(1, 1), (2, 9), (3, 400)] {
                    check(Declared { late, unique, retain }, seed, rows_max).await;
                }
            }
        }
    }
}
