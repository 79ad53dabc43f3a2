//! Processes that end at every named place, workers that take over from each other, a broker that is killed: afterwards it is as if
//! nothing had happened. Only with the feature `harness`, which names the places.

use std::collections::BTreeMap;

use async_nats::jetstream::stream::Config;
use milepost::checkpoint::chain::Marker;
use milepost::runtime::failpoint::Failpoint;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Running, folder, milepost, start_in, wait_until};
use crate::support::Nats;

const STREAM: &str = "TOTALS";

/// A pipeline that adds up what events say of their keys; its commits lie in a folder that several homes share.
struct Field {
    folder: TempDir,
    url: String,
}

impl Field {
    fn new(url: &str) -> Self {
        let folder = folder();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writable");
        write(
            "event.json",
            r#"{"type": "object", "required": ["id", "k", "v"], "properties":
               {"id": {"type": "string"}, "k": {"type": "string"}, "v": {"type": "integer"}}}"#,
        );
        write("totals.sql", "SELECT k, count(*) AS events, sum(v) AS total FROM events GROUP BY k");
        let state = url_of(&folder);
        write(
            "p.yaml",
            &format!(
                "pipeline: p\nclock: broker\nstate: {state}\nsources:\n  events:\n    contract: event.json\n    \
                 jetstream: {{ stream: EVENTS, subjects: [\"events.>\"] }}\n    unique: [id]\n\
                 jobs:\n  totals: {{ sql: totals.sql, key: [k] }}\n\
                 sinks:\n  - {{ job: totals, jetstream: {{ stream: {STREAM}, subject: \"totals.{{k}}\" }} }}\n  \
                 - {{ job: totals, parquet: {{ path: totals, every: 20ms }} }}\n\
                 batch: {{ max_rows: 7, max_wait: 5ms }}\n"
            ),
        );
        Self { folder, url: url.to_owned() }
    }

    fn arguments(&self, command: &str, home: usize) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        [command.to_owned(), path("p.yaml"), "--home".to_owned(), path(&format!("home-{home}"))].into()
    }

    /// A worker on one of the homes, which ends where it is told.
    fn start(&self, home: usize, failpoint: Option<(Failpoint, u64)>) -> Running {
        let mut arguments = self.arguments("run", home);
        arguments.extend(["--nats", &self.url, "--snapshot-every", "20ms"].map(str::to_owned));
        let wanted = failpoint.map(|(point, count)| ("MILEPOST_FAILPOINT", format!("{}:{count}", point.name())));
        let environment: Vec<(&str, String)> = wanted.into_iter().collect();
        start_in(&environment, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn catch_up(&self, home: usize) {
        let mut arguments = self.arguments("run", home);
        arguments.extend(["--nats".to_owned(), self.url.clone(), "--until-caught-up".to_owned()]);
        milepost(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).text();
    }

    /// How many workers have claimed the log so far.
    fn claims(&self) -> usize {
        let Ok(log) = std::fs::read_dir(self.folder.path().join("state/p/log")) else { return 0 };
        let is_claim =
            |path: std::path::PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.contains("{\"claim\":"));
        log.filter_map(Result::ok).filter(|entry| is_claim(entry.path())).count()
    }

    /// Starts a worker and waits until the log is its own: whoever had it is fenced when it next commits.
    fn take_over(&self, home: usize, failpoint: Option<(Failpoint, u64)>) -> Running {
        let before = self.claims();
        let worker = self.start(home, failpoint);
        wait_until("the log is claimed", || self.claims() > before);
        worker
    }

    /// The table as its file says.
    fn table(&self, home: usize) -> String {
        let mut arguments = self.arguments("query", home);
        arguments.extend(["SELECT * FROM totals ORDER BY k", "--format", "csv"].map(str::to_owned));
        milepost(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).text()
    }
}

fn url_of(folder: &TempDir) -> String {
    format!("file://{}/state", folder.path().display())
}

/// Events with their keys and values, some of them twice and long after.
fn events(count: u64) -> Vec<(u64, String)> {
    let mut events = Vec::new();
    for number in 0..count {
        events.push(number);
        if number % 8 == 5 {
            events.push(number / 2);
        }
    }
    let body = |number: u64| format!(r#"{{"id":"{number}","k":"key {}","v":{}}}"#, number % 19, number * number % 97);
    events.into_iter().map(|number| (number, body(number))).collect()
}

/// What the table must say, by another way.
fn expected(count: u64) -> String {
    let mut totals: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for number in 0..count {
        let total = totals.entry(format!("key {}", number % 19)).or_default();
        *total = (total.0 + 1, total.1 + number * number % 97);
    }
    let lines: String = totals.iter().map(|(key, (events, total))| format!("{key},{events},{total}\n")).collect();
    format!("k,events,total\n{lines}")
}

async fn make_streams(nats: &Nats) {
    let subjects = vec!["events.>".to_owned()];
    let config = Config { name: "EVENTS".to_owned(), subjects, ..Config::default() };
    nats.broker.jetstream().create_stream(config).await.expect("a stream");
}

/// That each key's revisions go up by one, that markers follow each other, and the last row of each key.
async fn check_stream(nats: &Nats) -> String {
    let stream = nats.broker.jetstream().get_stream(STREAM).await.expect("a stream");
    let mut revisions: BTreeMap<String, u64> = BTreeMap::new();
    let mut rows: BTreeMap<String, Value> = BTreeMap::new();
    let mut last: Option<Marker> = None;
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.expect("a message");
        if message.subject.starts_with("_milepost.") {
            let marker: Marker = serde_json::from_slice(&message.payload).expect("a marker");
            let follows = match &last {
                Some(last) if last.manifest == marker.manifest => marker.batch == last.batch + 1,
                Some(last) => marker.batch == 0 && marker.manifest > last.manifest && last.batch + 1 == last.batches,
                None => marker.batch == 0,
            };
            assert!(follows, "{marker:?} behind {last:?}");
            last = Some(marker);
            continue;
        }
        let event: Value = serde_json::from_slice(&message.payload).expect("JSON");
        let revision = revisions.entry(message.subject.to_string()).or_insert(0);
        *revision += 1;
        assert_eq!(event["revision"], *revision, "`{}` at {sequence}", message.subject);
        rows.insert(event["data"]["k"].as_str().expect("a key").to_owned(), event["data"].clone());
    }
    let line = |(key, row): (&String, &Value)| format!("{key},{},{}\n", row["events"], row["total"]);
    format!("k,events,total\n{}", rows.iter().map(line).collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_at_any_named_place_leaves_nothing_out_and_nothing_twice() {
    let mut nats = Nats::start().await;
    make_streams(&nats).await;
    let field = Field::new(&nats.url());
    let count = 900;
    let events = events(count);
    let places: Vec<(Failpoint, u64)> = Failpoint::ALL
        .into_iter()
        // That one is only come to when an upsert file has changed.
        .filter(|point| *point != Failpoint::GenerationStaged)
        .flat_map(|point| [(point, 1), (point, 3)])
        .collect();
    let mut chunks = events.chunks(events.len() / places.len() + 1);
    let mut before: Option<Running> = None;
    let mut killed = 0;
    for (round, place) in places.into_iter().enumerate() {
        let mut worker = field.take_over(round % 2, Some(place));
        let bodies = chunks.next().unwrap_or_default().iter().map(|(_, body)| body.clone());
        nats.publish("events.a", bodies).await;
        if let Some(before) = before.take() {
            // Whoever ran until now is fenced by the new one, or has come to its place.
            let mut before = before;
            wait_until("the worker before ends", || before.has_ended());
            let said = before.said();
            // By the log, or, where it was about to publish, by the markers.
            let fenced = said.status == Some(3) && said.err.contains("error: another writer ");
            killed += usize::from(said.status.is_none());
            assert!(fenced || said.status.is_none(), "{:?}: {}", said.status, said.err);
        }
        // A place that is only come to once leaves the worker running, for the next one to take over.
        let patience = std::time::Duration::from_millis(1_500);
        for _ in 0..75 {
            if worker.has_ended() {
                break;
            }
            tokio::time::sleep(patience / 75).await;
        }
        if round % 5 == 4 {
            nats.kill();
            nats.revive().await;
        }
        before = Some(worker);
    }
    drop(before);
    assert!(killed > 8, "of the places {killed} were come to");
    field.catch_up(0);
    assert_eq!(field.table(0), expected(count));
    assert_eq!(check_stream(&nats).await, expected(count));
    // A home that knows nothing, and the log of the others.
    field.catch_up(2);
    assert_eq!(field.table(2), expected(count));
    assert_eq!(check_stream(&nats).await, expected(count));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_that_take_over_from_each_other_end_as_one_undisturbed() {
    let nats = Nats::start().await;
    make_streams(&nats).await;
    let field = Field::new(&nats.url());
    let count = 600;
    let events = events(count);
    let mut workers: Vec<Running> = Vec::new();
    for (round, chunk) in events.chunks(events.len() / 12 + 1).enumerate() {
        workers.push(field.take_over(round % 2, None));
        nats.publish("events.a", chunk.iter().map(|(_, body)| body.clone())).await;
        if workers.len() == 2 {
            let mut first = workers.remove(0);
            wait_until("the first worker is fenced", || first.has_ended());
            let said = first.said();
            assert!(said.status == Some(3) && said.err.contains("error: another writer "), "{}", said.err);
        }
    }
    for mut worker in workers {
        worker.kill();
    }
    field.catch_up(0);
    assert_eq!(field.table(0), expected(count));
    assert_eq!(check_stream(&nats).await, expected(count));
}
