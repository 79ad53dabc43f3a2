//! What a change stream promises, also over restarts, lost acknowledgements and second writers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Decimal128Array, ListArray, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, StorageType};
use futures::StreamExt;
use milepost::checkpoint::chain::{Link, Marker, Roll};
use milepost::checkpoint::outbox::{BatchSize, Draft};
use milepost::checkpoint::{Entry, EpochRecord, JetStreamOutlet, Log, Outlet, Staged, Writer, elapsed, roll_forward};
use milepost::error::{Error, ErrorKind};
use milepost::sink::body::row_schema;
use milepost::sink::change_stream::{ensure_stream, marker_subject, read_ledger};
use milepost::sink::changes::{ChangeDesk, ChangeTarget};
use milepost::sink::{KeyedChanges, Stamp};
use milepost::types::{Epoch, OutboundMessage};
use serde_json::{Value, json};

use crate::fakes::MemoryStore;
use crate::support::{Nats, SOON};

const STREAM: &str = "TRIGGERS";

/// A row: key and amount in thousandths.
type Row<'a> = (&'a str, i128);

fn schema() -> Schema {
    let numbers = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
    Schema::new(vec![
        Field::new("trigger_key", DataType::Utf8View, true),
        Field::new("amount", DataType::Decimal128(18, 3), true),
        Field::new("served_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("numbers", numbers, true),
    ])
}

fn table(rows: &[Row]) -> RecordBatch {
    let amounts = Decimal128Array::from_iter_values(rows.iter().map(|(_, amount)| *amount))
        .with_precision_and_scale(18, 3)
        .unwrap();
    let times =
        TimestampMicrosecondArray::from_iter(rows.iter().map(|(_, amount)| (amount % 2 == 0).then_some(1_500_000)));
    let numbers = ListArray::from_iter_primitive::<Int32Type, _, _>(rows.iter().map(|_| Some(vec![Some(1), None])));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(rows.iter().map(|(key, _)| *key))),
        Arc::new(amounts),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(numbers),
    ];
    RecordBatch::try_new(schema().into(), columns).unwrap()
}

fn changes(present: &[Row], gone: &[&str]) -> KeyedChanges {
    let keys: ArrayRef = Arc::new(StringViewArray::from_iter_values(gone.iter().copied()));
    KeyedChanges { present: table(present), gone: RecordBatch::try_from_iter([("trigger_key", keys)]).unwrap() }
}

fn stamp(epoch: u64) -> Stamp {
    Stamp { epoch: Epoch(epoch), clock: Some(epoch as i64 * 1_000_000), watermark: None }
}

/// A job's change stream with a log of its own, as a run has them.
struct Sink {
    desk: ChangeDesk,
    outlet: JetStreamOutlet,
    log: Log,
    end: Link,
    size: BatchSize,
    /// What is committed and may not be out.
    rolls: Vec<Roll>,
    patience: Duration,
}

impl Sink {
    async fn open(nats: &Nats) -> Result<Self, Error> {
        let (context, schema, key) = (nats.broker.jetstream(), schema(), ["trigger_key".to_owned()]);
        let subject = "invoice.triggers.{trigger_key}";
        let target =
            ChangeTarget { pipeline: "p", job: "triggers", stream: STREAM, subject, schema: &schema, key: &key };
        let mut desk = ChangeDesk::new(&target)?;
        JetStreamOutlet::check_broker(context)?;
        let size = ensure_stream(context, STREAM, &[desk.filter()]).await?;
        let outlet = JetStreamOutlet::new(context, STREAM, marker_subject(STREAM, "p"));
        let end = Link::from(outlet.last_marker().await?);
        desk.set_ledger(read_ledger(context, &desk).await?);
        let store = Arc::new(MemoryStore::calm());
        let (log, _) = Log::open(store, Writer::this_process(), elapsed(), BTreeMap::new(), &|_| Ok(())).await?;
        let size = BatchSize { message_bytes_max: size.message_bytes_max, batch_bytes_max: size.payload_bytes_max };
        Ok(Self { desk, outlet, log, end, size, rolls: Vec::new(), patience: Duration::from_secs(10) })
    }

    fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn publish(&mut self, stamp: Stamp, changes: KeyedChanges) -> Result<u64, Error> {
        self.settle().await?;
        let messages = self.desk.changes(stamp, &changes)?;
        self.carry_out(stamp, messages).await
    }

    async fn reconcile(&mut self, stamp: Stamp, table: RecordBatch) -> Result<u64, Error> {
        self.settle().await?;
        let messages = self.desk.reconcile(stamp, &table)?;
        self.carry_out(stamp, messages).await
    }

    async fn carry_out(&mut self, stamp: Stamp, messages: Vec<OutboundMessage>) -> Result<u64, Error> {
        let count = messages.len() as u64;
        let mut draft = Draft::default();
        draft.add(STREAM, messages);
        let staged = draft.outbox(&|_| Some((self.end.clone(), self.size)))?.map(Staged::new);
        let record = EpochRecord {
            epoch: stamp.epoch,
            clock_us: stamp.clock,
            watermark_us: None,
            ended: false,
            inputs: Vec::new(),
        };
        let mut proposal = self.log.propose(Entry::Epoch(record), staged)?;
        let committed = Arc::new(self.log.put(&mut proposal).await?);
        self.rolls = Roll::of(&committed);
        self.settle().await?;
        Ok(count)
    }

    /// Brings out what is committed.
    async fn settle(&mut self) -> Result<(), Error> {
        let started = std::time::Instant::now();
        for roll in &mut self.rolls {
            while let Err(error) = roll_forward(&self.outlet, roll, &|| ()).await {
                if error.kind() != ErrorKind::Unavailable || started.elapsed() > self.patience {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            self.end = roll.end().unwrap();
        }
        self.rolls.clear();
        Ok(())
    }
}

async fn open(nats: &Nats) -> Sink {
    Sink::open(nats).await.unwrap_or_else(|error| panic!("{}", error.chain()))
}

async fn publish(sink: &mut Sink, epoch: u64, present: &[Row<'_>], gone: &[&str]) -> u64 {
    sink.publish(stamp(epoch), changes(present, gone)).await.unwrap_or_else(|error| panic!("{}", error.chain()))
}

/// Everything that a plain consumer of the changes sees: subject and body.
async fn consumed(nats: &Nats) -> Vec<(String, Value)> {
    let stream = nats.broker.jetstream().get_stream(STREAM).await.unwrap();
    let configuration = pull::Config {
        filter_subject: "invoice.triggers.>".to_owned(),
        ack_policy: AckPolicy::None,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(configuration).await.unwrap();
    let pending = consumer.cached_info().num_pending as usize;
    let mut found = Vec::new();
    if pending > 0 {
        let mut messages = consumer.batch().max_messages(pending).expires(SOON).messages().await.unwrap();
        while let Some(message) = messages.next().await {
            let message = message.unwrap();
            let kind =
                message.headers.as_ref().and_then(|headers| headers.get("content-type")).map(ToString::to_string);
            assert_eq!(kind.as_deref(), Some("application/cloudevents+json"));
            found.push((message.subject.to_string(), serde_json::from_slice(&message.payload).unwrap()));
        }
    }
    found
}

/// `key type revision` of each message, in stream order.
async fn told(nats: &Nats) -> Vec<String> {
    let tell = |(_, body): (String, Value)| {
        let kind = body["type"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
        format!("{} {kind} {}", body["subject"].as_str().unwrap(), body["revision"])
    };
    consumed(nats).await.into_iter().map(tell).collect()
}

#[tokio::test]
async fn a_key_is_told_as_appeared_changed_revoked_and_appeared_again() {
    let nats = Nats::start().await;
    let mut sink = open(&nats).await;
    assert_eq!(publish(&mut sink, 1, &[("a", 1), ("b", 2)], &[]).await, 2);
    assert_eq!(publish(&mut sink, 2, &[("a", 1), ("b", 2)], &["never seen"]).await, 0);
    assert_eq!(publish(&mut sink, 3, &[("a", 3)], &["b"]).await, 2);
    assert_eq!(publish(&mut sink, 4, &[("a", 3)], &["b"]).await, 0);
    assert_eq!(publish(&mut sink, 5, &[("b", 2)], &["a"]).await, 2);
    let told = told(&nats).await;
    let (a, b): (Vec<_>, Vec<_>) = told.into_iter().partition(|line| line.starts_with('a'));
    assert_eq!(a, ["a appeared 1", "a changed 2", "a revoked 3"]);
    assert_eq!(b, ["b appeared 1", "b revoked 2", "b appeared 3"]);
}

#[tokio::test]
async fn a_message_is_a_cloud_event_that_names_its_predecessor() {
    let nats = Nats::start().await;
    let mut sink = open(&nats).await;
    publish(&mut sink, 1, &[("S1/O1/10", 10_500)], &[]).await;
    publish(&mut sink, 2, &[], &["S1/O1/10"]).await;
    let expected = [
        json!({
            "specversion": "1.0", "id": "p/triggers/S1%2FO1%2F10/1", "source": "milepost/p", "type": "milepost.triggers.appeared",
            "subject": "S1/O1/10", "time": "1970-01-01T00:00:01.000000Z", "datacontenttype": "application/json",
            "revision": 1, "epoch": "1",
            "data": {
                "trigger_key": "S1/O1/10", "amount": "10.500", "served_at": "1970-01-01T00:00:01.500000Z", "numbers": [1, null]
            }
        }),
        json!({
            "specversion": "1.0", "id": "p/triggers/S1%2FO1%2F10/2", "source": "milepost/p", "type": "milepost.triggers.revoked",
            "subject": "S1/O1/10", "time": "1970-01-01T00:00:02.000000Z", "datacontenttype": "application/json",
            "revision": 2, "predecessor": "p/triggers/S1%2FO1%2F10/1", "epoch": "2", "data": null
        }),
    ];
    let found = consumed(&nats).await;
    assert_eq!(found.len(), 2);
    for ((subject, body), expected) in found.into_iter().zip(expected) {
        assert_eq!(subject, "invoice.triggers.S1%2FO1%2F10");
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn every_message_fits_the_published_schema_and_a_spoilt_one_does_not() {
    let nats = Nats::start().await;
    let mut sink = open(&nats).await;
    publish(&mut sink, 1, &[("a", 1), ("b", -2_000), ("", 7)], &[]).await;
    publish(&mut sink, 2, &[("a", 4)], &["b"]).await;
    let schema = row_schema("triggers", &schema(), &["trigger_key".to_owned()]);
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let bodies = consumed(&nats).await;
    assert_eq!(bodies.len(), 5);
    for (_, body) in &bodies {
        assert!(
            validator.is_valid(body),
            "{body}: {:?}",
            validator.iter_errors(body).map(|error| error.to_string()).collect::<Vec<_>>()
        );
    }
    let good = &bodies[0].1;
    for (pointer, value) in [
        ("/data/amount", json!(10.5)),
        ("/data/amount", json!("10.5")),
        ("/data/trigger_key", json!(null)),
        ("/data/served_at", json!("1970-01-01 00:00:00")),
        ("/data", json!(null)),
        ("/type", json!("milepost.triggers.revoked")),
        ("/type", json!("milepost.other.appeared")),
        ("/revision", json!(0)),
    ] {
        let mut spoilt = good.clone();
        *spoilt.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&spoilt), "{pointer}: {spoilt}");
    }
}

#[tokio::test]
async fn a_restart_reads_the_ledger_back_and_publishes_differences_only() {
    let nats = Nats::start().await;
    let keys: Vec<String> = (0..2_500).map(|number| format!("key {number}")).collect();
    let mut rows: Vec<Row> = keys.iter().map(|key| (key.as_str(), 5)).collect();
    assert_eq!(publish(&mut open(&nats).await, 1, &rows, &["gone before"]).await, 2_500);
    assert_eq!(open(&nats).await.reconcile(stamp(2), table(&rows)).await.unwrap(), 0);

    rows.truncate(2_498);
    rows[0].1 = 6;
    rows.push(("new", 1));
    let mut sink = open(&nats).await;
    assert_eq!(sink.reconcile(stamp(3), table(&rows)).await.unwrap(), 4);
    assert_eq!(sink.reconcile(stamp(4), table(&rows)).await.unwrap(), 0);
    let told = told(&nats).await;
    assert_eq!(told[2_500..], ["key 0 changed 2", "key 2498 revoked 2", "key 2499 revoked 2", "new appeared 1"]);
}

#[tokio::test]
async fn of_two_writers_with_a_ledger_the_second_to_publish_is_fenced() {
    let nats = Nats::start().await;
    let (mut first, mut second) = (open(&nats).await, open(&nats).await);
    assert_eq!(publish(&mut first, 1, &[("a", 1)], &[]).await, 1);
    for attempt in 0..2 {
        let error = match attempt {
            0 => second.publish(stamp(1), changes(&[("a", 1)], &[])).await.unwrap_err(),
            _ => second.settle().await.unwrap_err(),
        };
        assert_eq!(error.kind(), ErrorKind::Fenced, "{}", error.chain());
        assert!(error.to_string().contains("another writer publishes to stream `TRIGGERS`"), "{error}");
    }
    publish(&mut first, 2, &[("a", 2)], &[]).await;
    assert_eq!(told(&nats).await, ["a appeared 1", "a changed 2"]);
}

#[tokio::test]
async fn a_stream_that_lost_what_was_published_is_noticed() {
    let nats = Nats::start().await;
    let mut sink = open(&nats).await;
    publish(&mut sink, 1, &[("a", 1)], &[]).await;
    nats.broker.jetstream().delete_stream(STREAM).await.unwrap();
    open(&nats).await;
    let error = sink.publish(stamp(2), changes(&[("a", 2)], &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.chain());
    assert!(error.to_string().contains("lacks messages that were published to it up to manifest 3"), "{error}");
    assert!(told(&nats).await.is_empty(), "nothing is published out of turn");
}

#[tokio::test]
async fn batches_end_in_markers_that_follow_each_other() {
    let nats = Nats::start().await;
    let mut sink = open(&nats).await;
    let keys: Vec<String> = (0..2_500).map(|number| format!("key {number}")).collect();
    let rows: Vec<Row> = keys.iter().map(|key| (key.as_str(), 5)).collect();
    publish(&mut sink, 1, &rows, &[]).await;
    publish(&mut sink, 2, &[("key 0", 6)], &[]).await;
    let stream = nats.broker.jetstream().get_stream(STREAM).await.unwrap();
    let mut found = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        if message.subject.as_str() == "_milepost.TRIGGERS.p" {
            let marker: Marker = serde_json::from_slice(&message.payload).unwrap();
            found.push((sequence, marker.manifest, marker.batch, marker.batches));
        }
    }
    let batches = found.iter().filter(|(_, manifest, ..)| *manifest == 2).count();
    assert!(batches >= 3, "{found:?}");
    let due = (0..batches).map(|batch| (2, batch, batches)).chain([(3, 0, 1)]);
    assert!(found.iter().map(|(_, manifest, batch, batches)| (*manifest, *batch, *batches)).eq(due), "{found:?}");
    assert_eq!(found.last().unwrap().0, 2_501 + found.len() as u64, "nothing is behind the last marker");
}

#[tokio::test]
async fn a_publication_that_was_given_up_halfway_is_finished_by_the_next_call() {
    let nats = Nats::start().await;
    let keys: Vec<String> = (0..3_000).map(|number| number.to_string()).collect();
    let rows = |amount| keys.iter().map(|key| (key.as_str(), amount)).collect::<Vec<Row>>();
    let mut sink = open(&nats).await;
    let mut halfway = 0;
    for round in 1..=8 {
        // Each round wants other rows and is given up at another point; some messages are stored without our knowing.
        let limit = Duration::from_millis(round * 5);
        let wanted = rows(i128::from(round));
        let given_up = tokio::time::timeout(limit, sink.publish(stamp(round), changes(&wanted, &[]))).await;
        halfway += usize::from(given_up.is_err());
        sink.settle().await.unwrap();
    }
    assert!(halfway > 0, "no call was given up");
    publish(&mut sink, 9, &rows(9), &[]).await;
    assert_eq!(publish(&mut sink, 10, &rows(9), &[]).await, 0);
    assert_eq!(open(&nats).await.reconcile(stamp(11), table(&rows(9))).await.unwrap(), 0);
    let mut revisions = std::collections::HashMap::new();
    for (subject, body) in consumed(&nats).await {
        let last = revisions.entry(subject).or_insert(0);
        assert_eq!(body["revision"], *last + 1);
        *last += 1;
    }
    assert_eq!(revisions.len(), 3_000);
}

#[tokio::test]
async fn a_server_that_restarts_while_changes_are_published_stores_each_once() {
    let mut nats = Nats::start().await;
    let mut sink = open(&nats).await.with_patience(SOON);
    let keys: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    let rows: Vec<Row> = keys.iter().map(|key| (key.as_str(), 1)).collect();
    let all = changes(&rows, &[]);
    let publishing = tokio::spawn(async move {
        let published = sink.publish(stamp(1), all).await;
        (published.map_err(|error| error.chain()), sink)
    });
    // The first message is stored: the call is under way.
    let mut watch = nats.broker.client().subscribe("invoice.triggers.>").await.unwrap();
    watch.next().await.unwrap();
    nats.kill();
    nats.revive().await;
    let (published, mut sink) = publishing.await.unwrap();
    assert_eq!(published, Ok(20_000));
    assert_eq!(publish(&mut sink, 2, &rows, &[]).await, 0);
    let mut subjects: Vec<String> = consumed(&nats).await.into_iter().map(|(subject, _)| subject).collect();
    assert_eq!(subjects.len(), 20_000);
    subjects.sort_unstable();
    subjects.dedup();
    assert_eq!(subjects.len(), 20_000);
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_after_which_the_same_call_works() {
    let mut nats = Nats::start().await;
    let mut sink = open(&nats).await.with_patience(Duration::from_millis(200));
    nats.kill();
    let error = sink.publish(stamp(1), changes(&[("a", 1)], &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    nats.revive().await;
    let mut sink = sink.with_patience(SOON);
    sink.settle().await.unwrap();
    assert_eq!(publish(&mut sink, 2, &[("a", 1)], &[]).await, 0);
    assert_eq!(told(&nats).await, ["a appeared 1"]);
}

#[tokio::test]
async fn a_missing_stream_is_created_so_that_it_keeps_everything_and_takes_markers() {
    let nats = Nats::start().await;
    open(&nats).await;
    let stream = nats.broker.jetstream().get_stream(STREAM).await.unwrap();
    let config = &stream.cached_info().config;
    assert_eq!(config.subjects, ["invoice.triggers.*", "_milepost.TRIGGERS.*"]);
    assert_eq!(config.storage, StorageType::File);
    assert!(config.deny_delete && config.deny_purge && config.allow_atomic_publish);
    assert!(config.max_age.is_zero() && config.max_messages <= 0 && config.max_bytes <= 0);
    assert!(stream.delete_message(1).await.is_err());
    assert!(stream.purge().await.is_err());
    open(&nats).await;
}

#[tokio::test]
async fn an_existing_stream_that_may_lose_messages_or_holds_others_is_refused_and_left_alone() {
    let nats = Nats::start().await;
    let limited = Config {
        name: STREAM.to_owned(),
        subjects: vec!["invoice.*".to_owned()],
        max_age: Duration::from_secs(3_600),
        max_messages: 100,
        ..Config::default()
    };
    let made = nats.broker.jetstream().create_stream(limited).await.unwrap().cached_info().config.clone();
    let error = Sink::open(&nats).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Definition);
    for mend in [
        "--subjects \"invoice.*,invoice.triggers.*,_milepost.TRIGGERS.*\"",
        "--max-age=0",
        "--max-msgs=-1",
        "--allow-batch",
    ] {
        assert!(error.to_string().contains(&format!("`nats stream edit TRIGGERS {mend}`")), "{error}");
    }
    assert_eq!(nats.broker.jetstream().get_stream(STREAM).await.unwrap().cached_info().config, made);

    nats.broker.jetstream().delete_stream(STREAM).await.unwrap();
    let plain = Config {
        name: STREAM.to_owned(),
        subjects: vec!["invoice.>".to_owned(), "_milepost.TRIGGERS.*".to_owned()],
        ..Config::default()
    };
    nats.broker.jetstream().create_stream(plain.clone()).await.unwrap();
    // What the command does that is named.
    nats.broker.jetstream().update_stream(Config { allow_atomic_publish: true, ..plain }).await.unwrap();
    nats.publish("invoice.other", ["not ours".to_owned()]).await;
    open(&nats).await;
    nats.publish("invoice.triggers.x", ["not ours".to_owned()]).await;
    let error = Sink::open(&nats).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Definition);
    assert!(
        error.to_string().contains("has a message on `invoice.triggers.x` (sequence 2) that this job didn't publish"),
        "{error}"
    );
}

#[tokio::test]
async fn a_message_or_key_beyond_the_brokers_limits_is_an_error_that_names_it() {
    let nats = Nats::start().await;
    let mut sink = open(&nats).await;
    let long = "x".repeat(5_000);
    let error = sink.publish(stamp(1), changes(&[(&long, 1)], &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().starts_with("key `xxx"), "{error}");
    let longest = "y".repeat(3_500);
    assert_eq!(publish(&mut sink, 1, &[(&longest, 1)], &[]).await, 1);
    assert_eq!(open(&nats).await.reconcile(stamp(2), table(&[(&longest, 1)])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_key_that_stands_twice_in_one_call_publishes_nothing() {
    let nats = Nats::start().await;
    let mut sink = open(&nats).await;
    for call in [changes(&[("a", 1), ("a", 2)], &[]), changes(&[("a", 1)], &["a"])] {
        let error = sink.publish(stamp(1), call).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    }
    assert!(told(&nats).await.is_empty());
}
