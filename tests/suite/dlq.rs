//! `milepost dlq`: dead letters counted, listed, shown with the place marked, and written out byte by byte.

use async_nats::HeaderMap;
use serde_json::Value;

use crate::connection::small;
use crate::program::Setting;
use crate::support::Nats;

/// A pipeline that has read three good events and four bad ones, of which one is no text.
async fn letters() -> (Nats, Setting) {
    let nats = Nats::start().await;
    nats.stream("EVENTS", &["events.>"]).await;
    let publish = async |headers: &[(&str, &str)], body: &[u8]| {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        let jetstream = nats.broker.jetstream();
        let sent = jetstream.publish_with_headers("events.a", map, body.to_vec().into()).await;
        sent.expect("sent").await.expect("stored");
    };
    publish(&[], br#"{"id":"1"}"#).await;
    publish(&[("Trace", "t-1"), ("Trace-State", "x")], br#"{"note": "n", "id": 17}"#).await;
    publish(&[("Content-Type", "application/json")], br#"[{"id":"2"}, {"note":"no id"}, {"id":"3"}]"#).await;
    publish(&[], b"{\"id\":\"4\", }").await;
    publish(&[], b"\xff\xfe\x00no text").await;
    let setting = small("", &["--nats", &nats.url()]);
    setting.run(&[]).text();
    (nats, setting)
}

fn dlq(setting: &Setting, further: &[&str]) -> crate::program::Said {
    let (pipeline, home) = (setting.pipeline.display().to_string(), setting.home());
    let (command, further) = further.split_first().expect("a command");
    crate::program::milepost(&[&["dlq", *command, &pipeline, "--home", &home], further].concat())
}

#[tokio::test]
async fn letters_are_counted_by_source_and_rule_and_listed_with_the_newest_first() {
    let (nats, setting) = letters().await;
    let text = dlq(&setting, &["list", "--format", "csv"]).text();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("source,rule,letters,newest_sequence,newest_at"));
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let counted: Vec<(&str, &str, &str)> = rows.iter().map(|row| (row[1], row[2], row[3])).collect();
    assert!(counted.contains(&("REQUIRED", "1", "3")), "{text}");
    assert_eq!(rows.iter().map(|row| row[2].parse::<u64>().expect("a number")).sum::<u64>(), 4, "{text}");
    assert!(rows.iter().all(|row| row[0] == "events" && row[4].len() > 10), "{text}");

    let each = dlq(&setting, &["list", "--each", "--limit", "3", "--format", "csv"]).text();
    let sequences: Vec<&str> = each.lines().skip(1).filter_map(|line| line.split(',').nth(1)).collect();
    assert_eq!(sequences, ["5", "4", "3"], "{each}");
    let only = dlq(&setting, &["list", "--each", "--of", "events", "--rule", "REQUIRED", "--format", "csv"]).text();
    assert_eq!(only.lines().count(), 2, "{only}");
    assert!(only.contains(",3,1,"), "the second event of the message: {only}");
    let said = dlq(&setting, &["list", "--of", "event"]).refusal(2);
    assert!(said.contains("there is no source `event`; did you mean `events`?"), "{said}");

    // The same while it runs.
    let mut running = setting.start();
    crate::program::wait_until("the pipeline runs", || {
        running.check_alive();
        setting.status().is_some_and(|status| status["running"] == Value::Bool(true))
    });
    crate::program::wait_until("all was read again", || dlq(&setting, &["list", "--format", "csv"]).text() == text);
    drop((running, nats));
}

#[tokio::test]
async fn one_letter_is_shown_whole_with_its_place_marked() {
    let (_nats, setting) = letters().await;
    let text = dlq(&setting, &["show", "events", "2"]).text();
    assert!(
        text.starts_with("source    events\nstream    EVENTS, sequence 2, event 0\nsubject   events.a\nreceived  2"),
        "{text}"
    );
    assert!(text.contains("\nheaders\n  Trace: t-1\n  Trace-State: x\n"), "{text}");
    let body = "\nbody, 23 bytes\n  {\"note\": \"n\", \"id\": 17}\n                      ^^\n";
    assert!(text.contains("place     /id\n") && text.ends_with(body), "{text}");

    // An event of a packed message: itself, and where what is missing should be.
    let text = dlq(&setting, &["show", "events", "3"]).text();
    assert!(text.ends_with("body, 16 bytes\n  {\"note\":\"no id\"}\n  ^\n"), "{text}");
    let text = dlq(&setting, &["show", "events", "5"]).text();
    assert!(text.ends_with("  00000000  ff fe 00 6e 6f 20 74 65 78 74                    ...no text\n"), "{text}");
    let said = dlq(&setting, &["show", "events", "3", "0"]).refusal(1);
    assert!(said.contains("has no dead letter of sequence 3"), "{said}");
    let said = dlq(&setting, &["show", "events", "1"]).refusal(1);
    assert!(said.contains("`milepost dlq list --each`"), "{said}");
}

#[tokio::test]
async fn what_is_exported_has_every_byte() {
    let (_nats, setting) = letters().await;
    let text = dlq(&setting, &["export"]).text();
    let all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(all.len(), 4, "{text}");
    let of = |sequence: u64| all.iter().find(|letter| letter["sequence"] == sequence).expect("there");
    assert_eq!(of(2)["body"], "{\"note\": \"n\", \"id\": 17}");
    assert_eq!(of(2)["headers"], serde_json::json!([["Trace", "t-1"], ["Trace-State", "x"]]));
    assert_eq!((&of(3)["index"], &of(3)["body"]), (&Value::from(1), &Value::from("{\"note\":\"no id\"}")));
    assert_eq!((&of(5)["body"], &of(5)["body_base64"]), (&Value::Null, &Value::from("//4Abm8gdGV4dA==")));
    let one = dlq(&setting, &["show", "events", "5", "--format", "json"]).text();
    assert_eq!(serde_json::from_str::<Value>(&one).expect("JSON"), *of(5));
}

#[test]
fn before_the_first_run_there_are_none_to_ask_for() {
    let setting = small("", &[]);
    for command in [&["list"][..], &["export"], &["show", "events", "1"]] {
        let said = dlq(&setting, command).refusal(1);
        assert!(said.contains("has left nothing under `--home"), "{said}");
    }
}
