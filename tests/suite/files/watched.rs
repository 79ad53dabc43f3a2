//! Files that come and change while the pipeline runs.

use std::path::Path;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Trial, gzip, lines};
use crate::program::wait_until;
use crate::support::Nats;

#[test]
fn files_that_come_while_it_runs_are_read_once_they_are_complete() {
    let trial = Trial::new("files: in/, unique: [id], watch: { every: 20ms }");
    let mut process = trial.start(&[]);
    let mut wait_for = |ids: &str| {
        wait_until(&format!("the rows {ids} are there"), || {
            process.check_alive();
            trial.ids().as_deref() == Some(ids)
        });
    };
    wait_for("");
    trial.write("in/b.ndjson", &lines(&[1, 2]));
    wait_for("1 2");
    std::fs::write(trial.path("in/later.csv.tmp"), "id,text\n3,three\n").expect("writable");
    std::fs::write(trial.path("in/_later.csv"), "id,text\n3,three\n").expect("writable");
    trial.write("in/a.ndjson.gz", &gzip(&lines(&[4])));
    wait_for("1 2 4");
    std::fs::rename(trial.path("in/later.csv.tmp"), trial.path("in/later.csv")).expect("renamed");
    wait_for("1 2 3 4");
    process.terminate().text();
    let places = ["in/b.ndjson 1 1", "in/b.ndjson 2 2", "in/a.ndjson.gz 3 4", "in/later.csv 4 3"];
    assert_eq!(trial.places(), places);
    trial.write("in/0.ndjson", &lines(&[5]));
    trial.run().text();
    assert_eq!(trial.places(), [&places[..], &["in/0.ndjson 5 5"]].concat(), "a restart knows their order");
}

#[test]
fn a_file_that_cannot_be_read_stops_its_own_source_until_it_is_mended() {
    let other = "  other: { contract: contract.json, files: other/, watch: { every: 20ms } }\n";
    // The damaged source stands first and must not starve the other.
    let trial = Trial::with("", "files: in/, watch: { every: 20ms }", "  others: { sql: others.sql }\n");
    let pipeline =
        std::fs::read_to_string(trial.path("p.yaml")).expect("readable").replace("jobs:\n", &format!("{other}jobs:\n"));
    trial.write("p.yaml", pipeline.as_bytes());
    trial.write("others.sql", b"SELECT count(*) AS rows FROM other");
    trial.write("in/a.ndjson", &lines(&[1]));
    let mut process = trial.start(&[]);
    let packed = gzip(&lines(&[2]));
    wait_until("the first file is read", || trial.ids().as_deref() == Some("1"));
    trial.write("in/b.ndjson.gz", &packed[..20]);
    wait_until("the damage is told", || {
        process.check_alive();
        trial
            .trouble()
            .contains("a watched file is not read before it is mended: source file `in/b.ndjson.gz` is damaged")
    });
    trial.write("other/a.ndjson", &lines(&[1, 2, 3]));
    wait_until("the other source goes on", || trial.found("SELECT rows FROM others").is_some_and(|rows| rows == ["3"]));
    std::fs::remove_file(trial.path("in/b.ndjson.gz")).expect("removed");
    wait_until("it is not missed", || trial.trouble().is_empty());
    trial.write("in/b.ndjson.gz", &packed);
    wait_until("the file is read", || trial.ids().as_deref() == Some("1 2"));
    wait_until("all is well", || trial.trouble().is_empty());
    trial.write("in/a.ndjson", &lines(&[9]));
    let mut process = Some(process);
    wait_until("the changed append file ends it", || trial.status().is_none_or(|status| status["running"] != true));
    let said = process.take().expect("it was started").terminate();
    assert_eq!(said.status, Some(2), "{}", said.err);
    assert!(said.err.contains("`in/a.ndjson` has changed since it was read"), "{}", said.err);
}

/// How many rows a reader finds in a table of Parquet files; none where there is no table.
fn rows_of(table: &Path) -> Option<i64> {
    let version = std::fs::canonicalize(table).ok()?;
    let files = std::fs::read_dir(version).ok()?.map(|entry| entry.expect("an entry").path());
    let rows = |path: std::path::PathBuf| {
        let file = std::fs::File::open(path).expect("a file of a version stays");
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
        builder.metadata().file_metadata().num_rows()
    };
    Some(files.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).map(rows).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_upsert_file_loses_no_event_and_readers_see_no_half_read_table() {
    let nats = Nats::start().await;
    nats.stream("EVENTS", &["events"]).await;
    nats.publish("events", ["{\"id\": 0, \"text\": \"before\"}".to_owned()]).await;
    let events = "  events: { contract: contract.json, jetstream: { stream: EVENTS, subjects: [events], start: { sequence: 2 } }, unique: [id] }\n";
    let trial = Trial::with(
        events,
        "files: in/lines.csv, upsert: [id], watch: { every: 20ms }",
        "  joined: { sql: joined.sql, key: [id] }\nsinks:\n  - { job: joined, parquet: { path: joined, every: 10ms } }\n",
    );
    trial.write(
        "joined.sql",
        b"SELECT e.id, e.text, l.text AS line FROM events AS e LEFT JOIN lines AS l ON l.id = e.id % 2",
    );
    trial.write("in/lines.csv", b"id,text\n0,even\n1,odd\n");
    let mut process = trial.start(&["--nats", &nats.url()]);
    wait_until("master data are read", || {
        process.check_alive();
        trial.ids().as_deref() == Some("0 1")
    });
    let many: Vec<String> = (1..=20_000).map(|id| format!("{{\"id\": {id}, \"text\": \"e{id}\"}}")).collect();
    nats.publish("events", many).await;
    let table = trial.home.path().join("joined");
    wait_until("the events are read", || rows_of(&table) == Some(20_000));
    for (content, expected) in [("id,text\n0,EVEN\n1,odd\n", ["EVEN", "odd"]), ("id,text\n0,EVEN\n", ["\"\"", "EVEN"])]
    {
        trial.write("in/lines.csv", content.as_bytes());
        wait_until("the new lines are there", || {
            process.check_alive();
            assert_eq!(rows_of(&table), Some(20_000), "what was published stays until it can be replaced");
            let lines = trial.found("SELECT DISTINCT line FROM joined ORDER BY line NULLS FIRST");
            lines.is_some_and(|lines| lines == expected)
                && trial.found("SELECT count(*) FROM joined").is_some_and(|rows| rows == ["20000"])
        });
    }
    wait_until("all is read again", || trial.trouble().is_empty());
    process.terminate().text();
    assert_eq!(rows_of(&table), Some(20_000));
    nats.publish("events", ["{\"id\": 20001, \"text\": \"after\"}".to_owned()]).await;
    let mut again = trial.start(&["--nats", &nats.url(), "--until-caught-up"]);
    wait_until("it reads on where it was", || rows_of(&table) == Some(20_001));
    again.kill();
}
