//! `milepost verify`: what a run left agrees with what is recomputed from the sources, and whatever was spoiled is found.

use std::path::Path;

use async_nats::jetstream::stream::Config;
use serde_json::Value;

use crate::program::{Said, Setting, folder, write_lines};
use crate::shipped_data::{STOCK, events};
use crate::support::Nats;

/// The lines of a report that ended so: table, place, verdict, and the whole line.
#[track_caller]
fn lines(said: &Said, status: i32) -> Vec<(String, String, String, Value)> {
    assert_eq!(said.status, Some(status), "{}{}", String::from_utf8_lossy(&said.out), said.err);
    let report: Value = serde_json::from_slice(&said.out).expect("JSON");
    assert_eq!(report["same"], Value::Bool(status == 0), "{report}");
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    let all = report["compared"].as_array().expect("a list");
    all.iter().map(|line| (text(line, "table"), text(line, "place"), text(line, "verdict"), line.clone())).collect()
}

/// The line of a table in a place.
#[track_caller]
fn line<'a>(lines: &'a [(String, String, String, Value)], table: &str, place: &str) -> &'a Value {
    let found = lines.iter().find(|(name, found, ..)| name == table && found == place);
    &found.unwrap_or_else(|| panic!("no `{table}` in {place}: {lines:#?}")).3
}

fn verify(setting: &Setting, further: &[&str]) -> Said {
    let flags = setting.flags.iter().map(String::as_str);
    let flags: Vec<&str> = flags.chain(["--format", "json"]).chain(further.iter().copied()).collect();
    setting.ask("verify", &flags)
}

#[test]
fn the_shipped_pipelines_agree_with_their_recomputation() {
    let work = folder();
    let path = work.path().join("events.ndjson");
    write_lines(&path, &events()[..3_000]);
    let orders = Setting::on_file(&path);
    let inventory = Setting::of_file(&STOCK, &STOCK.data("observed.ndjson"));
    for setting in [orders.with_batches_of(500), inventory] {
        setting.run(&[]).text();
        let found = lines(&verify(&setting, &[]), 0);
        let count = |place: &str| found.iter().filter(|(_, found, ..)| found.starts_with(place)).count();
        assert!(count("query") > 15 && count("Parquet") > 1, "{found:#?}");
        assert!(found.iter().any(|(.., line)| line["rows"].as_u64() > Some(100)), "there is something to compare");
    }
}

/// A pipeline of a stream of readings, with everything that decides what of it is accepted, and master data beside.
fn readings(url: &str) -> Setting {
    let home = folder();
    let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).expect("writable");
    write(
        "reading.json",
        r#"{"$id": "reading", "type": "object", "required": ["id", "site", "at", "value"], "properties": {
            "id": {"type": "string", "maxLength": 20}, "site": {"type": "string"}, "at": {"type": "string", "format": "date-time"},
            "value": {"type": "integer"}}}"#,
    );
    write(
        "site.json",
        r#"{"$id": "site", "type": "object", "required": ["site", "of"], "properties": {
            "site": {"type": "string"}, "of": {"type": "integer"}, "gone": {"type": "boolean"}}}"#,
    );
    write(
        "sites.ndjson",
        "{\"site\":\"A\",\"of\":4}\n{\"site\":\"B\",\"of\":0}\n{\"site\":\"C\",\"of\":1,\"gone\":true}\n",
    );
    write("sums.sql", "SELECT site, sum(value) AS total, count(*) AS n FROM readings GROUP BY site");
    write("shares.sql", "SELECT r.id, r.value / s.of AS share FROM readings AS r JOIN sites AS s ON s.site = r.site");
    write("bad.sql", "SELECT rule, count(*) AS n FROM milepost.dead_letters GROUP BY rule");
    write(
        "p.yaml",
        "pipeline: p\nclock: event_time\nsources:\n  readings:\n    contract: reading.json\n    \
         jetstream: { stream: READINGS, subjects: [\"readings.>\"] }\n    unique: [id]\n    \
         event_time: { column: at, lateness: 1h }\n    late: divert\n  \
         sites: { contract: site.json, files: sites.ndjson, upsert: [site], deleted: gone }\n\
         jobs:\n  sums: { sql: sums.sql, key: [site] }\n  shares: { sql: shares.sql, key: [id] }\n  \
         bad: { sql: bad.sql, key: [rule] }\n\
         sinks:\n  - { job: sums, jetstream: { stream: SUMS, subject: \"sums.{site}\" } }\n  \
         - { job: sums, parquet: { path: sums, every: 1s } }\n\
         batch: { max_rows: 7 }\n",
    );
    let flags = ["--nats", url].map(str::to_owned).to_vec();
    Setting { pipeline: home.path().join("p.yaml"), home, flags }
}

fn reading(id: u32, site: &str, minute: u32, value: i64) -> String {
    let (hour, minute) = (minute / 60, minute % 60);
    format!(r#"{{"id":"R{id}","site":"{site}","at":"2026-01-01T{hour:02}:{minute:02}:00Z","value":{value}}}"#)
}

/// Readings with repetitions, conflicts, late ones and broken ones among them.
fn mixed(first: u32, count: u32) -> Vec<String> {
    let mut all = Vec::new();
    for id in first..first + count {
        all.push(reading(id, ["A", "B"][id as usize % 2], id % 1_200, i64::from(id)));
        match id % 10 {
            3 => all.push(reading(id - 1, ["A", "B"][(id - 1) as usize % 2], (id - 1) % 1_200, i64::from(id - 1))),
            5 => all.push(reading(id - 1, "A", 1, 7)),
            7 => all.push(reading(100_000 + id, "A", 0, 1)),
            9 => all.push(format!(r#"{{"id":"X{id}","site":"A"}}"#)),
            _ => {}
        }
    }
    all
}

#[tokio::test]
async fn tables_streams_and_own_tables_of_a_pipeline_agree_and_error_rows_are_said_to_be_left_out() {
    let nats = Nats::start().await;
    nats.stream("READINGS", &["readings.>"]).await;
    nats.publish("readings.a", mixed(1, 300)).await;
    let setting = readings(&nats.url());
    setting.run(&[]).text();
    // Site B has a zero: the job's SELECT fails as a whole, and that is said.
    let found = lines(&verify(&setting, &[]), 1);
    for (table, place) in
        [("sums", "query"), ("sums", "Parquet sums"), ("sums", "stream SUMS"), ("bad", "query"), ("sites", "query")]
    {
        assert_eq!(line(&found, table, place)["verdict"], "same", "{found:#?}");
    }
    for own in ["milepost.dead_letters", "milepost.late", "milepost.intake"] {
        let line = line(&found, own, "query");
        assert!(line["verdict"] == "same" && line["rows"].as_u64() > Some(10), "{line}");
    }
    let shares = line(&found, "shares", "query");
    assert_eq!(shares["verdict"], "not_compared", "{shares}");
    assert!(shares["notes"][0].as_str().is_some_and(|note| note.contains("divide by zero")), "{shares}");
    lines(&verify(&setting, &["--job", "sums", "--job", "bad"]), 0);
    let text = setting.ask("verify", &["--job", "sums", "--nats", &nats.url()]).text();
    assert!(text.contains("  sums   stream SUMS") && text.contains("same"), "{text}");
    let said = setting.ask("verify", &["--job", "sum"]).refusal(2);
    assert!(said.contains("there is no job `sum`; did you mean `sums`?"), "{said}");
}

#[tokio::test]
async fn whatever_is_spoiled_is_found() {
    let nats = Nats::start().await;
    nats.stream("READINGS", &["readings.>"]).await;
    nats.publish("readings.a", mixed(1, 60)).await;
    let setting = readings(&nats.url());
    setting.run(&[]).text();
    let sums = |status: i32| lines(&verify(&setting, &["--job", "sums"]), status);
    sums(0);

    // A message that nobody of ours sent, one key's history gone wrong.
    nats.publish("sums.A", ["{\"id\":\"p/sums/A/9\"}".to_owned()]).await;
    let found = sums(1);
    let stream = line(&found, "sums", "stream SUMS");
    assert!(stream.to_string().contains("on `sums.A` is no change of this job"), "{stream}");
    assert_eq!(line(&found, "sums", "query")["verdict"], "same");

    // A byte of a Parquet file.
    let current = std::fs::canonicalize(setting.home.path().join("sums")).expect("a version");
    let file = files(&current).into_iter().find(|path| path.to_string_lossy().ends_with(".parquet")).expect("a file");
    let mut bytes = std::fs::read(&file).expect("readable");
    bytes[20] ^= 1;
    std::fs::write(&file, bytes).expect("writable");
    let found = sums(1);
    let parquet = line(&found, "sums", "Parquet sums");
    assert!(parquet.to_string().contains("does not have the digest that was written"), "{parquet}");

    // Another SELECT than the one that the tables are of: a circuit that computes something else would look like this.
    std::fs::write(
        setting.home.path().join("sums.sql"),
        "SELECT site, sum(value) + 1 AS total, count(*) AS n FROM readings GROUP BY site",
    )
    .expect("writable");
    let found = sums(1);
    let query = line(&found, "sums", "query");
    assert_eq!((query["missing"].as_u64(), query["extra"].as_u64()), (Some(2), Some(2)), "{query}");
    assert!(query["missing_examples"][0].as_str().is_some_and(|row| row.contains("\"site\":\"A\"")), "{query}");
    let said = setting.ask("verify", &["--job", "sums", "--nats", &nats.url()]);
    let text = String::from_utf8(said.out).expect("text");
    assert!(text.contains("DIFFERS") && text.contains("\n  missing  {\"site\":\"A\""), "{text}");
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("an entry").path()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pipeline_is_verified_while_it_goes_on() {
    let nats = Nats::start().await;
    nats.stream("READINGS", &["readings.>"]).await;
    nats.publish("readings.a", mixed(1, 200)).await;
    let setting = readings(&nats.url());
    let mut running = setting.start();
    crate::program::wait_until("something was run", || {
        running.check_alive();
        setting.status().is_some_and(|status| status["epoch"].as_u64() > Some(3))
    });
    for round in 1..=3_u32 {
        let more = nats.publish("readings.a", mixed(round * 1_000, 300));
        let (said, ()) = tokio::join!(
            async {
                let setting = &setting;
                tokio::task::block_in_place(|| verify(setting, &["--job", "sums", "--job", "bad"]))
            },
            more
        );
        lines(&said, 0);
    }
    running.terminate().text();
    let found = lines(&verify(&setting, &["--job", "sums", "--job", "bad"]), 0);
    assert!(line(&found, "sums", "stream SUMS")["epoch"].as_u64() > Some(50), "{found:#?}");
}

#[tokio::test]
async fn a_source_that_is_not_as_it_was_is_said_to_be_lost() {
    let work = folder();
    let path = work.path().join("events.ndjson");
    write_lines(&path, &events()[..200]);
    let setting = Setting::on_file(&path);
    setting.run(&[]).text();
    write_lines(&path, &events()[1..200]);
    let found = lines(&verify(&setting, &["--job", "shipment_state"]), 1);
    let line = line(&found, "shipment_state", "query");
    assert_eq!(line["verdict"], "not_compared", "{line}");
    assert!(line["notes"][0].as_str().is_some_and(|note| note.contains("can't be read again as it was")), "{line}");
}

#[tokio::test]
async fn nothing_is_written_and_no_consumer_is_left() {
    let nats = Nats::start().await;
    let config = Config { name: "READINGS".to_owned(), subjects: vec!["readings.>".to_owned()], ..Config::default() };
    nats.broker.jetstream().create_stream(config).await.expect("a stream");
    nats.publish("readings.a", mixed(1, 50)).await;
    let setting = readings(&nats.url());
    let said = verify(&setting, &[]).refusal(1);
    assert!(said.contains("has left nothing under `--home"), "{said}");
    setting.run(&[]).text();
    let state = setting.home.path().join(".state/p");
    let before = files(&state);
    lines(&verify(&setting, &["--job", "sums"]), 0);
    assert_eq!(files(&state).len(), before.len());
    for stream in ["READINGS", "SUMS"] {
        let stream = nats.broker.jetstream().get_stream(stream).await.expect("there");
        assert_eq!(stream.cached_info().state.consumer_count, 0, "no consumer is left");
    }
}
