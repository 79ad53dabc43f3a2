//! Many events in a message come to the same as one event in each, whatever they are packed in and cut into.

use std::sync::Arc;

use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use async_nats::HeaderMap;
use milepost::decode::{Decoder, Format};
use milepost::definition::contract::Contract;
use milepost::diagnostic::SourceText;
use milepost::types::RawMessage;
use serde_json::{Value, json};

use crate::oracle::Random;
use crate::program::{Setting, same_tables};
use crate::shipped_data::{ORDERS, events, in_repository};
use crate::support::Nats;

/// What a message carries.
enum Form {
    One,
    Array,
    Lines,
    Arrow,
}

fn contract() -> Arc<Contract> {
    let path = in_repository("pipelines/contracts/milestone.v1.json");
    let text = std::fs::read_to_string(&path).expect("the contract can be read");
    Arc::new(Contract::compile(&SourceText::new(path, text)).unwrap_or_else(|found| panic!("{}", found.render(false))))
}

/// The rows that events become, as they are sent; none where one of them is refused.
fn rows(contract: &Arc<Contract>, events: &[String]) -> Option<RecordBatch> {
    let mut decoder = Decoder::new(Arc::clone(contract), Format::Json);
    let mut rejections = Vec::new();
    for event in events {
        let message = RawMessage {
            stream: "S".into(),
            sequence: 1,
            subject: "s".into(),
            received_at: None,
            headers: Vec::new(),
            columns: None,
            body: event.clone().into(),
        };
        decoder.decode(&message, &mut rejections);
    }
    let columns: Vec<usize> = (0..contract.columns.len()).collect();
    rejections.is_empty().then(|| decoder.finish().project(&columns).expect("the contract's own columns"))
}

fn ipc(rows: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).expect("a stream");
    let half = rows.num_rows() / 2;
    writer.write(&rows.slice(0, half)).expect("written");
    writer.write(&rows.slice(half, rows.num_rows() - half)).expect("written");
    writer.finish().expect("ended");
    writer.into_inner().expect("all bytes")
}

/// Events as one message: its header and body. Forms that can't carry one of them give way to lines.
fn pack(form: &Form, contract: &Arc<Contract>, events: &[String]) -> (Option<&'static str>, Vec<u8>) {
    let sound = events.iter().all(|event| serde_json::from_str::<Value>(event).is_ok());
    match (form, events) {
        (Form::One, [event]) => (None, event.clone().into_bytes()),
        (Form::Array, _) if sound => (Some("application/json"), format!("[{}]", events.join(",\n ")).into_bytes()),
        (Form::Arrow, _) if let Some(rows) = rows(contract, events) => {
            (Some("application/vnd.apache.arrow.stream"), ipc(&rows))
        }
        _ => (Some("application/x-ndjson"), events.join("\n").into_bytes()),
    }
}

/// Publishes events in messages of random size and form; returns how many messages of each form there were.
async fn publish_packed(nats: &Nats, contract: &Arc<Contract>, events: &[String], random: &mut Random) -> [usize; 4] {
    let mut rest = events;
    let mut messages = [0; 4];
    while !rest.is_empty() {
        let most = [1, 5, 60, 400][usize::try_from(random.below(4)).expect("small")];
        let count = usize::try_from(1 + random.below(most)).expect("small").min(rest.len());
        let (packed, left) = rest.split_at(count);
        rest = left;
        let form = [Form::One, Form::Array, Form::Lines, Form::Arrow]
            .into_iter()
            .nth(usize::try_from(random.below(4)).expect("small"));
        let (content_type, body) = pack(&form.expect("one of four"), contract, packed);
        let mut headers = HeaderMap::new();
        let kind = match content_type {
            None => 0,
            Some("application/json") => 1,
            Some("application/x-ndjson") => 2,
            Some(_) => 3,
        };
        messages[kind] += 1;
        if let Some(content_type) = content_type {
            headers.insert("Content-Type", content_type);
        }
        let context = nats.broker.jetstream();
        let sent = context.publish_with_headers("milestones.partner", headers, body.into()).await;
        sent.expect("the client takes the message").await.expect("the broker stores it");
    }
    messages
}

/// What became of the milestones, and how many dead letters there are by rule and text.
fn told(setting: &Setting) -> (Value, String) {
    let status = setting.status().expect("it was run");
    let source = status["sources"].as_array().and_then(|sources| {
        sources.iter().find(|source| source["source"] == "milestones").map(|source| {
            json!(["read", "accepted", "duplicate", "late", "dead_letters"].map(|count| source[count].clone()))
        })
    });
    let letters = "SELECT rule, place, text, count(*) FROM milepost.dead_letters GROUP BY ALL ORDER BY 1, 2, 3";
    (source.expect("the source is reported"), setting.query(letters))
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_events_give_the_tables_and_counts_that_single_ones_give_also_over_a_restart() {
    // Those with faults come a second time, so that there are duplicates too.
    let faulty = ORDERS.lines_of("injected.ndjson");
    let events: Vec<String> = events().into_iter().take(6_000).chain(faulty.iter().chain(&faulty).cloned()).collect();
    let single = Nats::start().await;
    single.stream("MILESTONES", &["milestones.>"]).await;
    single.publish("milestones.partner", events.clone()).await;
    let expected = Setting::on_broker(&single.url());
    expected.run(&[]).text();
    let (counts, letters) = told(&expected);
    assert!(counts[2].as_u64() > Some(10) && counts[4].as_u64() > Some(10), "the events have faults: {counts}");

    let contract = contract();
    for seed in 0..2 {
        let mut random = Random(seed);
        let nats = Nats::start().await;
        nats.stream("MILESTONES", &["milestones.>"]).await;
        let setting =
            Setting::on_broker(&nats.url()).with_batches_of([100, 16_384][usize::try_from(seed).unwrap_or(0)]);
        let mut messages = [0; 4];
        for part in [&events[..3_000], &events[3_000..]] {
            for (sum, count) in messages.iter_mut().zip(publish_packed(&nats, &contract, part, &mut random).await) {
                *sum += count;
            }
            setting.run(&[]).text();
        }
        assert!(messages.iter().all(|count| *count > 5), "{messages:?} messages by form");
        let (found_counts, found_letters) = told(&setting);
        assert_eq!(found_counts, counts, "seed {seed}");
        assert_eq!(found_letters, letters, "seed {seed}");
        same_tables(&setting.tables(), &expected.tables());
        if seed == 0 {
            let epochs = setting.query("SELECT count(*) FROM milepost.epochs");
            let epochs: u64 = epochs.lines().nth(1).and_then(|count| count.parse().ok()).expect("a count");
            assert!(epochs > 20, "batches of a hundred events make more than {epochs} epochs");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_of_a_packed_event_keeps_the_event_and_one_of_a_broken_message_all_of_it() {
    let nats = Nats::start().await;
    nats.stream("MILESTONES", &["milestones.>"]).await;
    let event = |shipment: &str| {
        format!(
            r#"{{"event_id":"E1","event_type":"gate.out","occurred_at":"2024-03-01T08:30:00Z","source_system":"wms1","shipment_id":"{shipment}"}}"#
        )
    };
    let (good, conflict) = (event("S1"), event("S2"));
    let bodies = [
        (Some("application/json"), format!("[{good},{{\"event_id\":7}},{conflict},{good}]")),
        (Some("application/json"), format!("[{good},")),
        (Some("text/plain"), good.clone()),
    ];
    for (content_type, body) in &bodies {
        let mut headers = HeaderMap::new();
        headers.insert("Content-Type", content_type.unwrap_or_default());
        let context = nats.broker.jetstream();
        let sent = context.publish_with_headers("milestones.partner", headers, body.clone().into()).await;
        sent.expect("the client takes the message").await.expect("the broker stores it");
    }
    let setting = Setting::on_broker(&nats.url());
    setting.run(&[]).text();
    let (counts, _) = told(&setting);
    assert_eq!(counts, json!([6, 1, 1, 0, 4]));
    let sql = "SELECT sequence, index, rule, text, headers FROM milepost.dead_letters ORDER BY sequence, index";
    let said = setting.ask("query", &[sql, "--format", "json"]).text();
    let letters: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let found: Vec<Value> =
        letters.iter().map(|found| json!([found["sequence"], found["index"], found["rule"], found["text"]])).collect();
    assert_eq!(
        json!(found),
        json!([
            [1, 1, "WRONG_TYPE", "{\"event_id\":7}"],
            [1, 2, "ID_CONFLICT", conflict],
            [2, 0, "INVALID_JSON", format!("[{good},")],
            [3, 0, "UNKNOWN_CONTENT_TYPE", good],
        ])
    );
    assert!(letters[0]["headers"].as_str().is_some_and(|headers| headers.contains("application/json")), "{letters:?}");
}
