//! Files that are added, changed and removed between two runs.

use super::{Trial, lines};
use crate::support::Nats;

#[test]
fn a_file_that_is_added_is_read_behind_the_others() {
    let mut trial = Trial::new("files: \"in/*.ndjson\"");
    trial.write("in/b.ndjson", &lines(&[1, 2]));
    trial.write("in/c.ndjson", &lines(&[3]));
    trial.run().text();
    trial.write("in/a.ndjson", &lines(&[4]));
    trial.write("in/d.ndjson", &lines(&[5]));
    for _ in 0..2 {
        trial.run().text();
        let expected = ["in/b.ndjson 1 1", "in/b.ndjson 2 2", "in/c.ndjson 3 3", "in/a.ndjson 4 4", "in/d.ndjson 5 5"];
        assert_eq!(trial.places(), expected, "also after a restart that reads nothing new");
    }
    trial.renew_home();
    trial.run().text();
    let in_order = ["in/a.ndjson 1 4", "in/b.ndjson 2 1", "in/b.ndjson 3 2", "in/c.ndjson 4 3", "in/d.ndjson 5 5"];
    assert_eq!(trial.places(), in_order);
}

#[test]
fn an_append_file_that_changed_or_is_gone_is_refused_until_it_is_back() {
    let trial = Trial::new("files: in/, unique: [id]");
    trial.write("in/a.ndjson", &lines(&[1, 2]));
    trial.write("in/b.ndjson", &lines(&[3]));
    trial.run().text();
    let places = trial.places();
    let refusal = |status: i32| {
        let said = trial.run().refusal(status);
        assert_eq!(trial.places(), places, "what readers have stays");
        said
    };

    trial.write("in/a.ndjson", &lines(&[1, 2, 4]));
    let said = refusal(2);
    for part in ["source `lines`: `in/a.ndjson` has changed since it was read", "put the old content back", "--home"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    std::fs::remove_file(trial.path("in/a.ndjson")).expect("removed");
    assert!(refusal(2).contains("`in/a.ndjson` was read and is gone"));
    std::fs::rename(trial.path("in/b.ndjson"), trial.path("b.away")).expect("moved");
    assert!(refusal(3).contains("none of the files"), "the folder may just not be mounted");

    std::fs::rename(trial.path("b.away"), trial.path("in/b.ndjson")).expect("moved");
    trial.write("in/a.ndjson", &lines(&[1, 2]));
    trial.write("in/c.ndjson", &lines(&[4]));
    trial.run().text();
    assert_eq!(trial.places(), [&places[..], &["in/c.ndjson 4 4".to_owned()]].concat());
}

#[test]
fn an_upsert_file_that_changed_or_is_gone_is_read_again() {
    let mut trial = Trial::new("files: \"in/*\", upsert: [id]");
    trial.write("in/a.ndjson", &lines(&[1, 2]));
    trial.write("in/b.csv", b"id,text\n3,t3\n");
    trial.run().text();
    trial.write("in/a.ndjson", &lines(&[2, 4]));
    let changed = trial.run();
    assert!(changed.err.contains("an upsert file has changed"), "{}", changed.err);
    changed.text();
    assert_eq!(
        trial.places(),
        ["in/a.ndjson 1 2", "in/a.ndjson 2 4", "in/b.csv 3 3"],
        "what left the file left the table"
    );
    std::fs::remove_file(trial.path("in/b.csv")).expect("removed");
    trial.run().text();
    let places = trial.places();
    assert_eq!(places, ["in/a.ndjson 1 2", "in/a.ndjson 2 4"]);
    let quiet = trial.run();
    assert!(!quiet.err.contains("has changed"), "{}", quiet.err);
    assert_eq!(trial.places(), places);

    std::fs::remove_file(trial.path("in/a.ndjson")).expect("removed");
    assert!(trial.run().refusal(3).contains("none of the files"), "a folder that is not mounted empties no table");
    assert_eq!(trial.places(), places);
    trial.write("in/a.ndjson", &lines(&[2, 4]));
    trial.run().text();
    trial.renew_home();
    trial.run().text();
    assert_eq!(trial.places(), places);
}

#[test]
fn a_changed_file_that_cannot_be_read_leaves_everything_as_it_was() {
    let trial =
        Trial::with("", "files: in/a.csv, upsert: [id]", "sinks:\n  - { job: rows, parquet: { path: rows } }\n");
    trial.write("in/a.csv", b"id,text\n1,one\n");
    trial.run().text();
    trial.write("in/a.csv", b"id,id\n1,one\n");
    let said = trial.run().refusal(2);
    assert!(said.contains("header of `in/a.csv` names column `id` twice"), "{said}");
    assert_eq!(trial.ids().as_deref(), Some("1"));
    trial.write("in/a.csv", b"id,text\n1,one\n");
    let quiet = trial.run();
    assert!(!quiet.err.contains("has changed"), "the old content is back: {}", quiet.err);
    quiet.text();
    assert_eq!(trial.ids().as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_upsert_file_is_refused_where_a_stream_no_longer_holds_what_was_read() {
    let nats = Nats::start().await;
    nats.stream("EVENTS", &["events"]).await;
    nats.publish("events", (1..=3).map(|id| format!("{{\"id\": {id}, \"text\": \"e{id}\"}}"))).await;
    let events =
        "  events: { contract: contract.json, jetstream: { stream: EVENTS, subjects: [events] }, unique: [id] }\n";
    let mut trial = Trial::with(events, "files: in/a.ndjson, upsert: [id]", "  seen: { sql: seen.sql }\n");
    trial.write("seen.sql", b"SELECT count(*) AS events, min(id) AS first FROM events");
    trial.write("in/a.ndjson", &lines(&[1]));
    trial.flags = vec!["--nats".to_owned(), nats.url()];
    trial.run().text();
    let stream = nats.broker.jetstream().get_stream("EVENTS").await.expect("it is there");
    stream.purge().sequence(3).await.expect("purged");
    trial.write("in/a.ndjson", &lines(&[2]));
    let said = trial.run().refusal(3);
    assert!(
        said.contains("an upsert file has changed, and source `events` must be read again from 1: stream"),
        "{said}"
    );
    assert_eq!((trial.query("SELECT * FROM seen"), trial.ids().as_deref()), (vec!["3,1".to_owned()], Some("1")));
}
