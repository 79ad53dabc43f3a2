//! The budget of dead letters: a feed that goes bad stops the pipeline before anything of it is published, and nothing else does.

use crate::connection::small;
use crate::program::{Setting, wait_until};
use crate::support::Nats;

/// The small pipeline with this of its source's dead letters, on epochs of ten events.
fn setting(url: &str, dead_letters: &str) -> Setting {
    let setting = small("batch: { max_rows: 10 }\n", &["--nats", url]);
    give(&setting, dead_letters);
    setting
}

/// Gives the source what the file shall say of its dead letters.
fn give(setting: &Setting, dead_letters: &str) {
    let text = std::fs::read_to_string(&setting.pipeline).expect("readable");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("dead_letters:"));
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    let with = format!("    unique: [id]\n    dead_letters: {dead_letters}\n");
    std::fs::write(&setting.pipeline, text.replace("    unique: [id]\n", &with)).expect("writable");
}

fn good(first: u32, count: u32) -> impl Iterator<Item = String> {
    (first..first + count).map(|id| format!(r#"{{"id":"{id}"}}"#))
}

fn bad(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|id| format!(r#"{{"name":"{id}"}}"#))
}

async fn published(nats: &Nats) -> u64 {
    match nats.broker.jetstream().get_stream("SEEN").await {
        Ok(stream) => stream.cached_info().state.messages,
        Err(_) => 0,
    }
}

#[tokio::test]
async fn a_feed_that_goes_bad_stops_the_run_before_its_epoch_is_published() {
    let nats = Nats::start().await;
    nats.stream("EVENTS", &["events.>"]).await;
    nats.publish("events.a", good(1, 40)).await;
    let setting = setting(&nats.url(), "{ max_share: 20%, after: 20 }");
    setting.run(&[]).text();
    assert_eq!(published(&nats).await, 40);
    nats.publish("events.a", good(100, 9).chain(bad(1)).chain(bad(10)).chain(good(200, 10))).await;
    let said = setting.run(&[]).refusal(1);
    let expected = "of the last 20 events of source `events` 11 are dead letters (55%), and its `dead_letters` bear 20%: \
                    REQUIRED at sequence 51, event 0";
    assert!(said.contains(expected), "{said}");
    // One bad event of ten is borne, and so what came with it is there; the epoch after it is not.
    let log = setting.home.path().join(".state/p");
    assert!(log.exists());
    let again = setting.run(&[]).refusal(1);
    assert!(again.contains("11 are dead letters"), "the same again: {again}");
    assert!(published(&nats).await <= 49, "nothing of the refused epoch left");

    // Whoever decides to bear it goes on, and every event is counted once.
    give(&setting, "{ max_share: 60%, after: 20 }");
    setting.run(&[]).text();
    assert_eq!(published(&nats).await, 59);
    let status = setting.status().expect("a report");
    assert_eq!((&status["sources"][0]["read"], &status["sources"][0]["dead_letters"]), (&70.into(), &11.into()));
    // What was logged stays, also where the budget is narrower than it was.
    give(&setting, "{ max_share: 1%, after: 1 }");
    setting.run(&[]).text();
}

#[tokio::test]
async fn a_running_pipeline_is_stopped_too_and_without_a_budget_none_is() {
    let nats = Nats::start().await;
    nats.stream("EVENTS", &["events.>"]).await;
    nats.publish("events.a", good(1, 20)).await;
    let bounded = setting(&nats.url(), "{ max_share: 0%, after: 10, keep: reference }");
    let unbounded = setting(&nats.url(), "{ keep: full }");
    let mut running = bounded.start();
    wait_until("it runs", || {
        running.check_alive();
        bounded.status().is_some_and(|status| status["sources"][0]["read"] == 20)
    });
    nats.publish("events.a", bad(10)).await;
    wait_until("it ends", || running.has_ended());
    let said = running.said();
    assert_eq!(said.status, Some(1), "{}", said.err);
    assert!(said.err.contains("and its `dead_letters` bear 0%"), "{}", said.err);
    let all = Setting { flags: [&unbounded.flags[..], &["--no-publish".to_owned()]].concat(), ..unbounded };
    all.run(&[]).text();
    assert_eq!(all.status().expect("a report")["sources"][0]["dead_letters"], 10);
}

#[tokio::test]
async fn what_is_not_kept_is_not_there_and_still_counted() {
    let nats = Nats::start().await;
    nats.stream("EVENTS", &["events.>"]).await;
    nats.publish("events.a", [r#"{"id": 17, "name": "Ann"}"#.to_owned(), "Ann".to_owned()]).await;
    let columns = "sequence, rule, place, reason, subject, text";
    for (keep, expected) in [
        (
            "redacted",
            "1,WRONG_TYPE,/id,,events.a,\"{\"\"id\"\": 0, \"\"name\"\": \"\"***\"\"}\"\n2,INVALID_JSON,byte 0,,events.a,\n",
        ),
        ("reference", "1,WRONG_TYPE,,,,\n2,INVALID_JSON,,,,\n"),
    ] {
        let setting = setting(&nats.url(), &format!("{{ keep: {keep} }}"));
        let setting = Setting { flags: [&setting.flags[..], &["--no-publish".to_owned()]].concat(), ..setting };
        setting.run(&[]).text();
        let found = setting.query(&format!("SELECT {columns} FROM milepost.dead_letters ORDER BY sequence"));
        assert_eq!(found, format!("{}\n{expected}", columns.replace(", ", ",")), "{keep}");
        assert_eq!(setting.status().expect("a report")["sources"][0]["dead_letters"], 2);
    }
}
