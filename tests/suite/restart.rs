//! A pipeline that is stopped, killed or started twice ends as if nothing had happened.

use std::collections::BTreeMap;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures::StreamExt;
use serde_json::Value;

use crate::program::{Setting, folder, milepost, same_tables, wait_until, write_lines};
use crate::shipped_data::{events, in_repository, pipeline_path, property};
use crate::support::{Nats, SOON};

const CHANGES: [&str; 2] = ["INVOICE_TRIGGERS", "INVOICE_EXCEPTIONS"];

/// Some thousand events: the first ones, and the invoices that belong to them.
fn some_events() -> Vec<String> {
    let part: Vec<String> = events().into_iter().take(6_000).collect();
    let invoiced = part.iter().filter(|line| property(line, "event_type").as_deref() == Some("invoice.posted")).count();
    assert!(invoiced > 100, "{invoiced} invoices");
    part
}

/// A broker with events on it.
async fn broker_with(events: &[String]) -> Nats {
    let nats = Nats::start().await;
    nats.stream("MILESTONES", &["milestones.>"]).await;
    nats.publish("milestones.partner", events.to_vec()).await;
    nats
}

/// The last sequence of a change stream; 0 where there is no such stream yet.
async fn last_sequence(nats: &Nats, stream: &str) -> u64 {
    match nats.broker.jetstream().get_stream(stream).await {
        Ok(stream) => stream.cached_info().state.last_sequence,
        Err(_) => 0,
    }
}

async fn last_sequences(nats: &Nats) -> [u64; 2] {
    [last_sequence(nats, CHANGES[0]).await, last_sequence(nats, CHANGES[1]).await]
}

/// How many messages the change streams hold.
async fn published(nats: &Nats) -> u64 {
    last_sequences(nats).await.iter().sum()
}

/// What the last message of each subject says (its row; null where it is revoked), after checking that each message is as
/// its printed schema says, and that each subject's revisions go up by one.
async fn told(nats: &Nats, stream: &str) -> BTreeMap<String, Value> {
    let pipeline = pipeline_path().to_string_lossy().into_owned();
    let schema = milepost(&["schema", &pipeline, &stream.to_lowercase()]).text();
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).expect("JSON")).expect("a schema");
    let stream = nats.broker.jetstream().get_stream(stream).await.expect("the stream is there");
    let configuration =
        pull::Config { filter_subject: "invoice.>".to_owned(), ack_policy: AckPolicy::None, ..pull::Config::default() };
    let consumer = stream.create_consumer(configuration).await.expect("a consumer can be made");
    let mut pending = consumer.cached_info().num_pending;
    let mut revisions: BTreeMap<String, u64> = BTreeMap::new();
    let mut last = BTreeMap::new();
    while pending > 0 {
        let mut messages = consumer.batch().max_messages(1_000).expires(SOON).messages().await.expect("messages");
        while pending > 0
            && let Some(message) = messages.next().await
        {
            let message = message.expect("a message");
            pending = message.info().expect("from a stream").pending;
            let event: Value = serde_json::from_slice(&message.payload).expect("JSON");
            let subject = message.subject.to_string();
            assert_eq!(schema.validate(&event).map_err(|problem| problem.to_string()), Ok(()), "{event}");
            let revision = revisions.entry(subject.clone()).or_insert(0);
            *revision += 1;
            assert_eq!(event["revision"], *revision, "revisions of `{subject}`");
            last.insert(subject, event["data"].clone());
        }
    }
    last
}

/// Whether the change streams of two brokers leave the same.
async fn same_changes(found: &Nats, expected: &Nats) {
    for stream in CHANGES {
        let (found, expected) = (told(found, stream).await, told(expected, stream).await);
        let standing = |told: &BTreeMap<String, Value>| {
            told.iter()
                .filter(|(_, row)| !row.is_null())
                .map(|(key, row)| (key.clone(), row.clone()))
                .collect::<Vec<_>>()
        };
        assert!(standing(&expected).len() > 100, "`{stream}` has messages");
        assert!(standing(&found) == standing(&expected), "the last messages of `{stream}` differ");
    }
}

/// Waits until the change streams hold this many messages together.
async fn wait_for_changes(nats: &Nats, count: u64, mut look: impl FnMut()) {
    for _ in 0..LOOKS_MAX {
        look();
        if published(nats).await >= count {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("the change streams never held {count} messages");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_publishes_nothing_again_with_or_without_what_was_kept() {
    let nats = broker_with(&some_events()).await;
    let mut setting = Setting::on_broker(&nats.url());
    setting.run(&[]).text();
    let (whole, tables, sequences) = (setting.whole_tables(), setting.tables(), last_sequences(&nats).await);
    assert!(sequences.iter().all(|&sequence| sequence > 100), "{sequences:?}");

    setting.run(&[]).text();
    assert_eq!(last_sequences(&nats).await, sequences, "after a restart");
    same_tables(&setting.whole_tables(), &whole);

    setting.home = folder();
    setting.run(&[]).text();
    assert_eq!(last_sequences(&nats).await, sequences, "after everything that was kept is lost");
    same_tables(&setting.tables(), &tables);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_again_and_again_ends_as_an_undisturbed_one() {
    let events = some_events();
    let undisturbed = broker_with(&events).await;
    let expected = Setting::on_broker(&undisturbed.url());
    expected.run(&[]).text();

    let (first, rest) = events.split_at(1_500);
    let nats = broker_with(first).await;
    let setting = Setting::on_broker(&nats.url()).with_batches_of(100);
    let mut parts = rest.chunks(750);
    while let (Some(away), Some(running)) = (parts.next(), parts.next()) {
        // Killed while epochs publish, and, from the second time on, soon after what came in its absence was made good.
        let before = published(&nats).await;
        nats.publish("milestones.partner", away.to_vec()).await;
        let mut process = setting.start();
        wait_for_changes(&nats, before + 1, || process.check_alive()).await;
        let before = published(&nats).await;
        nats.publish("milestones.partner", running.to_vec()).await;
        wait_for_changes(&nats, before + 1, || process.check_alive()).await;
        process.kill();
    }
    let committed = std::fs::read_dir(setting.home.path().join(".state/order_to_invoice/log")).expect("a log");
    assert!(committed.count() > 10, "the process was killed between epochs");
    setting.run(&[]).text();
    same_tables(&setting.tables(), &expected.tables());
    same_changes(&nats, &undisturbed).await;
    let sequences = last_sequences(&nats).await;
    setting.run(&[]).text();
    assert_eq!(last_sequences(&nats).await, sequences, "nothing is left to be published");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_while_the_process_runs_or_is_away_end_in_the_same_tables() {
    let events = some_events();
    let whole = broker_with(&events).await;
    let expected = Setting::on_broker(&whole.url());
    expected.run(&[]).text();

    let (first, rest) = events.split_at(2_000);
    let (second, third) = rest.split_at(2_000);
    let nats = broker_with(first).await;
    let setting = Setting::on_broker(&nats.url());
    let process = setting.start();
    wait_until("the first events are read", || read(&setting) == 2_000);
    nats.publish("milestones.partner", second.to_vec()).await;
    wait_until("the second events are read", || read(&setting) == 4_000);
    let said = process.terminate();
    assert_eq!(said.status, Some(0), "{}", said.err);
    assert_eq!(read(&setting), 4_000, "what a stopped process leaves");
    nats.publish("milestones.partner", third.to_vec()).await;
    setting.run(&[]).text();
    same_tables(&setting.tables(), &expected.tables());
    same_changes(&nats, &whole).await;
}

/// How many milestones were read, by `status`.
fn read(setting: &Setting) -> u64 {
    let Some(report) = setting.status() else { return 0 };
    let sources = report["sources"].as_array().cloned().unwrap_or_default();
    sources
        .iter()
        .find(|source| source["source"] == "milestones")
        .and_then(|source| source["read"].as_u64())
        .unwrap_or(0)
}

/// A file with the first events.
fn events_file(folder: &std::path::Path, count: usize) -> std::path::PathBuf {
    let path = folder.join("events.ndjson");
    write_lines(&path, &events()[..count]);
    path
}

#[test]
fn a_second_process_is_refused_and_a_stopped_one_leaves_its_tables() {
    let work = folder();
    let setting = Setting::on_file(&events_file(work.path(), 2_000));
    let process = setting.start();
    wait_until("the events are read", || read(&setting) == 2_000);
    let report = setting.status().expect("it runs");
    assert_eq!(report["running"], true);
    let refused = setting.run(&[]).refusal(3);
    assert!(refused.contains(&format!("process {} runs this pipeline in `", process.id())), "{refused}");
    assert!(refused.contains(&setting.home()), "{refused}");
    let running = setting.tables();
    let said = process.terminate();
    assert_eq!((said.status, said.out.len()), (Some(0), 0), "{}", said.err);
    same_tables(&setting.tables(), &running);
    assert_eq!(setting.status().expect("it ran")["running"], false);
    let files = setting.ask("path", &["shipment_state"]).text();
    assert!(files.lines().count() > 0 && files.lines().all(|file| std::path::Path::new(file).is_file()), "{files}");
}

#[test]
fn an_append_file_that_changed_is_refused_and_its_tables_stay() {
    let work = folder();
    let setting = Setting::on_file(&events_file(work.path(), 1_000));
    setting.run(&[]).text();
    let tables = setting.tables();
    events_file(work.path(), 1_200);
    let refused = setting.run(&[]).refusal(2);
    assert!(
        refused.contains("source `milestones`: `") && refused.contains("has changed since it was read"),
        "{refused}"
    );
    assert!(refused.contains("--home"), "says what to do: {refused}");
    same_tables(&setting.tables(), &tables);
}

#[test]
fn an_upsert_file_that_changed_is_read_again_and_the_tables_follow() {
    let work = folder();
    let customers = work.path().join("customers.csv");
    std::fs::copy(in_repository("data/order_to_invoice/customers.csv"), &customers).expect("can be copied");
    let file = work.path().join("events.ndjson");
    write_lines(&file, &some_events());
    let mut setting = Setting::on_file(&file);
    setting.flags.extend(["--source".to_owned(), format!("customers={}", customers.display())]);
    setting.run(&[]).text();
    let blocked = |setting: &Setting| {
        let sql = "SELECT count(*) FROM invoice_exceptions WHERE array_has(reasons, 'CREDIT_HOLD')";
        setting.query(sql).lines().nth(1).and_then(|count| count.parse::<u64>().ok()).expect("a count")
    };
    assert!(blocked(&setting) > 0, "a customer is on hold");
    let held = std::fs::read_to_string(&customers).expect("readable");
    assert!(held.contains(",NET60,true,"), "the customer on hold");
    std::fs::write(&customers, held.replace(",NET60,true,", ",NET60,false,")).expect("writable");
    let said = setting.run(&[]);
    assert!(said.err.contains("an upsert file has changed"), "{}", said.err);
    said.text();
    assert_eq!(blocked(&setting), 0);
    let mut anew = Setting::on_file(&file);
    anew.flags.clone_from(&setting.flags);
    anew.run(&[]).text();
    same_tables(&setting.tables(), &anew.tables());
}

#[test]
fn a_process_that_ends_while_all_is_read_again_leaves_what_readers_had() {
    let work = folder();
    let customers = work.path().join("customers.csv");
    let held = std::fs::read_to_string(in_repository("data/order_to_invoice/customers.csv")).expect("readable");
    std::fs::write(&customers, &held).expect("writable");
    let file = events_file(work.path(), 3_000);
    let mut setting = Setting::on_file(&file).with_batches_of(20);
    setting.flags.extend(["--source".to_owned(), format!("customers={}", customers.display())]);
    setting.run(&[]).text();
    let tables = setting.tables();
    std::fs::write(&customers, held.replace(",NET60,true,", ",NET60,false,")).expect("writable");
    let anew = setting.home.path().join(".state/order_to_invoice/epochs");
    for asked in [true, false] {
        let mut process = setting.start();
        wait_until("all is being read again", || {
            process.check_alive();
            let report = setting.status().unwrap_or_default();
            let rebuilding = report["trouble"].as_str().is_some_and(|trouble| trouble.contains("being read again"));
            rebuilding && report["epoch"].as_u64().is_some_and(|epoch| (10..200).contains(&epoch))
        });
        if asked {
            let said = process.terminate();
            assert!(said.err.contains("their tables stay as they are"), "{}", said.err);
            said.text();
        } else {
            process.kill();
        }
        assert!(!anew.exists(), "it ended before all was read");
        same_tables(&setting.tables(), &tables);
    }
    setting.run(&[]).text();
    assert!(anew.exists(), "the new epochs took the place of the old ones");
    let mut fresh = Setting::on_file(&file);
    fresh.flags.clone_from(&setting.flags);
    fresh.run(&[]).text();
    same_tables(&setting.tables(), &fresh.tables());
}

/// How often the streams are looked at, and for how long.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(5);
const LOOKS_MAX: usize = 20_000;
