//! A job's changes on a JetStream stream: one message a change, each key a subject of its own.
//!
//! The write order, per message: note in the ledger that the revision is in doubt, send it on the condition that its
//! predecessor is the subject's last message, and record it once the broker has acknowledged it. So whatever happens
//! between two of these steps is repaired by reading the subject's last message: it is the predecessor (not stored),
//! the revision in doubt (stored: our own earlier success, also after a refusal), or somebody else's (fenced). Nothing
//! rests on the broker's memory of message ids. At start the ledger is read back from the stream.
//!
//! At most `WINDOW` messages wait for acknowledgement at a time. Within one call each key changes once at most, and a
//! call ends when everything is acknowledged, so the revisions of a key are stored in their order.

#![expect(clippy::disallowed_methods, reason = "an edge: retries are bounded in real time")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{self, Context, ErrorCode};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};

use super::body::{Rows, check_schema};
use super::event::{CONTENT_TYPE, Publisher, digest};
use super::ledger::{Content, Ledger, Next, Verdict};
use super::subject::{SubjectTemplate, encode_token};
use super::{ChangeSink, KeyedChanges, Stamp};
use crate::error::{Error, ErrorKind, Result};

pub use super::change_target::{ensure_stream, marker_filter};

/// What is published where.
#[derive(Debug, Clone, Copy)]
pub struct ChangeTarget<'a> {
    /// The pipeline's name, part of every id.
    pub pipeline: &'a str,
    /// The job's name, part of every id and type.
    pub job: &'a str,
    /// The stream.
    pub stream: &'a str,
    /// The subject template: literal tokens and `{column}` for each column of the key.
    pub subject: &'a str,
    /// The job's columns.
    pub schema: &'a Schema,
    /// The names of the key's columns.
    pub key: &'a [String],
}

/// A change stream that is open for publishing.
pub struct ChangeStreamSink {
    context: Context,
    stream: Arc<str>,
    publisher: Publisher,
    template: SubjectTemplate,
    key: Vec<String>,
    ledger: Ledger,
    /// Whether a call ended before everything it sent was acknowledged.
    unsettled: bool,
    patience: Duration,
}

/// A key with what its subject shall say.
struct Wanted {
    subject: String,
    key: Vec<String>,
    content: Content,
    /// The row in canonical form; empty where it is gone.
    data: Vec<u8>,
}

/// Why a publication has no acknowledgement.
enum Trouble {
    /// Publishing it again can't help.
    Refused(ErrorKind, String),
    /// It may or may not be stored.
    Unknown(String),
}

impl ChangeStreamSink {
    /// Opens the stream (creating it if it is missing, see [`ensure_stream`]) and reads the ledger back from it.
    ///
    /// # Errors
    /// `Definition` where the template, the key, a column's type or an existing stream's settings can't work, or where
    /// the subjects hold messages of another publisher; `Unavailable` where the broker doesn't answer.
    pub async fn open(context: &Context, target: &ChangeTarget<'_>) -> Result<Self> {
        check_schema(target.schema)?;
        let template = SubjectTemplate::parse(target.subject, target.key)?;
        if let Some(missing) = target.key.iter().find(|name| target.schema.index_of(name).is_err()) {
            return Err(Error::new(
                ErrorKind::Definition,
                format!("job `{}` has no column `{missing}` of its key", target.job),
            ));
        }
        ensure_stream(context, target.stream, &[template.filter()]).await?;
        let mut sink = Self {
            context: context.clone(),
            stream: target.stream.into(),
            publisher: Publisher::new(target.pipeline, target.job),
            template,
            key: target.key.to_vec(),
            ledger: Ledger::default(),
            unsettled: false,
            patience: PATIENCE,
        };
        sink.read_ledger().await?;
        Ok(sink)
    }

    /// How long a call tries to reach the broker before it reports `Unavailable`; ten seconds unless said here.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Reads the last message of every subject of the template.
    async fn read_ledger(&mut self) -> Result<()> {
        let doing = format!("reading the ledger back from stream `{}`", self.stream);
        let unavailable = |cause: String| Error::caused(ErrorKind::Unavailable, doing.clone(), cause);
        let configuration = pull::Config {
            description: Some("milepost".to_owned()),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::None,
            filter_subject: self.template.filter(),
            inactive_threshold: Duration::from_secs(60),
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = self.context.create_consumer_on_stream(configuration, &*self.stream).await;
        let consumer = consumer.map_err(|error| unavailable(error.to_string()))?;
        let mut remaining = consumer.cached_info().num_pending;
        let mut delivered = 0;
        while remaining > 0 {
            let wanted = usize::try_from(remaining).unwrap_or(usize::MAX).min(LEDGER_BATCH);
            let mut batch = consumer
                .batch()
                .max_messages(wanted)
                .expires(LEDGER_WAIT)
                .messages()
                .await
                .map_err(|error| unavailable(error.to_string()))?;
            let before = delivered;
            while let Some(message) = batch.next().await {
                let message = message.map_err(|error| unavailable(error.to_string()))?;
                let info = message.info().map_err(|error| unavailable(error.to_string()))?;
                delivered += 1;
                if info.consumer_sequence != delivered {
                    return Err(unavailable("a message of the consumer is missing".to_owned()));
                }
                remaining = info.pending;
                self.enter(&message.subject, info.stream_sequence, &message.payload)?;
            }
            if delivered == before {
                return Err(unavailable(format!("nothing came within {LEDGER_WAIT:?}")));
            }
        }
        let info = consumer.cached_info();
        if let Err(error) = self.context.delete_consumer_from_stream(&info.name, &*self.stream).await {
            tracing::debug!(consumer = %info.name, %error, "left to expire");
        }
        Ok(())
    }

    /// Enters a subject's last message.
    fn enter(&mut self, subject: &str, sequence: u64, message: &[u8]) -> Result<()> {
        let revision =
            self.template.key(subject).and_then(|key| self.publisher.read(&key, message)).ok_or_else(|| {
                Error::new(
                    ErrorKind::Definition,
                    format!(
                        "stream `{}` has a message on `{subject}` (sequence {sequence}) that this job didn't publish; \
                     give the sink subjects of its own",
                        self.stream
                    ),
                )
            })?;
        self.ledger.record(subject, revision, sequence);
        Ok(())
    }

    /// What each row's subject shall say, as far as it doesn't say so yet. `seen` collects all subjects.
    fn wanted_rows(&self, batch: &RecordBatch, seen: &mut HashSet<String>) -> Result<Vec<Wanted>> {
        let rows = Rows::new(batch)?;
        let key = self.key_columns(batch)?;
        let mut wanted = Vec::new();
        for row in 0..batch.num_rows() {
            let key = self.key_of(&rows, &key, row)?;
            let subject = self.unseen(&key, seen)?;
            let mut data = Vec::new();
            rows.write(row, &mut data)?;
            let content = Content::Present(digest(&data));
            if self.ledger.decide(&subject, content).is_some() {
                wanted.push(Wanted { subject, key, content, data });
            }
        }
        Ok(wanted)
    }

    fn wanted_gone(&self, batch: &RecordBatch, seen: &mut HashSet<String>) -> Result<Vec<Wanted>> {
        let rows = Rows::new(batch)?;
        let key = self.key_columns(batch)?;
        let mut wanted = Vec::new();
        for row in 0..batch.num_rows() {
            let key = self.key_of(&rows, &key, row)?;
            let subject = self.unseen(&key, seen)?;
            wanted.push(Wanted { subject, key, content: Content::Revoked, data: Vec::new() });
        }
        Ok(wanted)
    }

    /// The keys that the ledger has and a whole table hasn't.
    fn wanted_missing(&self, seen: &HashSet<String>) -> Vec<Wanted> {
        let missing = self.ledger.present().into_iter().filter(|subject| !seen.contains(subject));
        missing
            .filter_map(|subject| {
                let key = self.template.key(&subject)?.into_iter().map(str::to_owned).collect();
                Some(Wanted { subject, key, content: Content::Revoked, data: Vec::new() })
            })
            .collect()
    }

    fn key_columns(&self, batch: &RecordBatch) -> Result<Vec<usize>> {
        let schema = batch.schema();
        let index = |name: &String| {
            schema
                .index_of(name)
                .map_err(|error| Error::caused(ErrorKind::Internal, "finding the key's columns", error))
        };
        self.key.iter().map(index).collect()
    }

    fn key_of(&self, rows: &Rows, columns: &[usize], row: usize) -> Result<Vec<String>> {
        let value = |(column, name): (&usize, &String)| match rows.text(*column, row)? {
            Some(text) => Ok(encode_token(&text)),
            None => {
                Err(Error::internal(format!("column `{name}` of the key is null in a row that was to be published")))
            }
        };
        columns.iter().zip(&self.key).map(value).collect()
    }

    fn unseen(&self, key: &[String], seen: &mut HashSet<String>) -> Result<String> {
        let subject = self.template.subject(key)?;
        if seen.insert(subject.clone()) {
            Ok(subject)
        } else {
            Err(Error::internal(format!("key `{}` stands in the changes twice", key.join("/"))))
        }
    }

    /// Publishes what is wanted; returns how many messages that took.
    async fn publish_all(&mut self, stamp: Stamp, wanted: Vec<Wanted>) -> Result<u64> {
        let mut published = 0;
        let mut queue = wanted.iter();
        let mut under_way = FuturesUnordered::new();
        let mut troubled: Vec<(&Wanted, Trouble)> = Vec::new();
        self.unsettled = true;
        loop {
            while troubled.is_empty()
                && under_way.len() < WINDOW
                && let Some(one) = queue.next()
            {
                let Some(next) = self.ledger.decide(&one.subject, one.content) else { continue };
                match self.send(stamp, one, &next).await? {
                    Ok(acknowledgement) => under_way.push(async move { (one, next, acknowledgement.await) }),
                    Err(trouble) => troubled.push((one, trouble)),
                }
            }
            match under_way.next().await {
                Some((one, next, Ok(stored))) => {
                    self.ledger.record(&one.subject, next.revision, stored.sequence);
                    published += 1;
                }
                Some((one, _, Err(error))) => troubled.push((one, trouble(&error))),
                None if troubled.is_empty() => break,
                None => {
                    for (one, trouble) in std::mem::take(&mut troubled) {
                        self.resolve(stamp, one, trouble).await?;
                        published += 1;
                    }
                }
            }
        }
        self.unsettled = false;
        Ok(published)
    }

    /// Sends a revision; the outer error is our own fault, the inner one the way's.
    async fn send(&mut self, stamp: Stamp, one: &Wanted, next: &Next) -> Result<Result<PublishAckFuture, Trouble>> {
        let key: Vec<&str> = one.key.iter().map(String::as_str).collect();
        let payload = self.publisher.message(stamp, &key, next, &one.data)?;
        let message = PublishMessage::build()
            .payload(payload.into())
            .header("content-type", CONTENT_TYPE)
            .expected_stream(&self.stream)
            .expected_last_subject_sequence(next.expected_sequence);
        self.ledger.doubt(&one.subject, next.revision);
        let sent = self.context.send_publish(one.subject.clone(), message).await;
        Ok(sent.map_err(|error| trouble(&error)))
    }

    /// Finds out what became of a publication, and repeats it until it is stored or patience ends.
    async fn resolve(&mut self, stamp: Stamp, one: &Wanted, mut trouble: Trouble) -> Result<()> {
        let started = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            if let Trouble::Refused(kind, cause) = trouble {
                return Err(Error::caused(
                    kind,
                    format!("publishing on `{}` of stream `{}`", one.subject, self.stream),
                    cause,
                ));
            }
            trouble = match self.look(&one.subject).await? {
                Err(cause) => Trouble::Unknown(cause),
                Ok(()) => {
                    let Some(next) = self.ledger.decide(&one.subject, one.content) else { return Ok(()) };
                    match self.publish_one(stamp, one, &next).await? {
                        Ok(()) => return Ok(()),
                        Err(trouble) => trouble,
                    }
                }
            };
            if started.elapsed() + pause > self.patience
                && let Trouble::Unknown(cause) = trouble
            {
                return Err(self.unavailable(&one.subject, cause));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn publish_one(&mut self, stamp: Stamp, one: &Wanted, next: &Next) -> Result<Result<(), Trouble>> {
        let acknowledgement = match self.send(stamp, one, next).await? {
            Ok(acknowledgement) => acknowledgement.await,
            Err(trouble) => return Ok(Err(trouble)),
        };
        Ok(match acknowledgement {
            Ok(stored) => {
                self.ledger.record(&one.subject, next.revision, stored.sequence);
                Ok(())
            }
            Err(error) => Err(trouble(&error)),
        })
    }

    /// Compares the ledger with the subject's last message, and brings it up to date if that is ours. The inner error
    /// says why the message could not be read.
    async fn look(&mut self, subject: &str) -> Result<Result<(), String>> {
        let stream = match self.context.get_stream_no_info(&*self.stream).await {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let stored = match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => {
                let revision = self.template.key(subject).and_then(|key| self.publisher.read(&key, &message.payload));
                Some((message.sequence, revision))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => None,
            Err(error) => return Ok(Err(error.to_string())),
        };
        match self.ledger.judge(subject, stored) {
            Verdict::Unchanged | Verdict::Stored => Ok(Ok(())),
            Verdict::Foreign => Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "subject `{subject}` of stream `{}` has a message that another writer published (sequence {}); stop the other one",
                    self.stream,
                    stored.map_or(0, |(sequence, _)| sequence)
                ),
            )),
            Verdict::Lost => Err(Error::new(
                ErrorKind::Corrupt,
                format!("stream `{}` has lost the messages of `{subject}`", self.stream),
            )),
        }
    }

    /// Learns what became of messages whose acknowledgement an earlier call didn't wait for.
    async fn settle(&mut self) -> Result<()> {
        if !self.unsettled {
            return Ok(());
        }
        let started = Instant::now();
        let mut pause = PAUSE_MIN;
        let mut doubted = self.ledger.doubted().into_iter().peekable();
        if let Some(subject) = doubted.peek() {
            self.pass_barrier(subject).await?;
        }
        while let Some(subject) = doubted.peek() {
            let Err(cause) = self.look(subject).await? else {
                self.ledger.dismiss(subject);
                doubted.next();
                continue;
            };
            if started.elapsed() + pause > self.patience {
                return Err(self.unavailable(subject, cause));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        self.unsettled = false;
        Ok(())
    }

    /// Waits until the broker has dealt with everything that was sent. A look at a subject could overtake what the
    /// broker has still queued; a publication can't, so one goes behind it that is refused whatever the stream holds.
    async fn pass_barrier(&self, subject: &str) -> Result<()> {
        let message =
            PublishMessage::build().expected_stream(&self.stream).expected_last_subject_sequence(SEQUENCE_OF_NONE);
        let outcome = match self.context.send_publish(subject.to_owned(), message).await {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        match outcome {
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(()),
            Err(error) => Err(self.unavailable(subject, error.to_string())),
            Ok(_) => {
                Err(Error::internal(format!("stream `{}` stored a message that no stream may store", self.stream)))
            }
        }
    }

    fn unavailable(&self, subject: &str, cause: String) -> Error {
        Error::caused(ErrorKind::Unavailable, format!("publishing on `{subject}` of stream `{}`", self.stream), cause)
    }
}

impl ChangeSink for ChangeStreamSink {
    fn is_fresh(&self) -> bool {
        self.ledger.is_empty()
    }

    fn publish(&mut self, stamp: Stamp, changes: KeyedChanges) -> BoxFuture<'_, Result<u64>> {
        async move {
            self.settle().await?;
            let mut seen = HashSet::new();
            let mut wanted = self.wanted_rows(&changes.present, &mut seen)?;
            wanted.extend(self.wanted_gone(&changes.gone, &mut seen)?);
            self.publish_all(stamp, wanted).await
        }
        .boxed()
    }

    fn reconcile(&mut self, stamp: Stamp, table: RecordBatch) -> BoxFuture<'_, Result<u64>> {
        async move {
            self.settle().await?;
            let mut seen = HashSet::new();
            let mut wanted = self.wanted_rows(&table, &mut seen)?;
            wanted.extend(self.wanted_missing(&seen));
            self.publish_all(stamp, wanted).await
        }
        .boxed()
    }
}

fn trouble(error: &PublishError) -> Trouble {
    let text = error.to_string();
    if error.kind() == PublishErrorKind::MaxPayloadExceeded {
        return Trouble::Refused(ErrorKind::Limit, text);
    }
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<jetstream::Error>());
    match cause.map(jetstream::Error::error_code) {
        Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM) => {
            Trouble::Refused(ErrorKind::Limit, text)
        }
        Some(ErrorCode::STREAM_SEALED | ErrorCode::STREAM_NOT_MATCH) => Trouble::Refused(ErrorKind::Definition, text),
        _ => Trouble::Unknown(text),
    }
}

/// Messages that wait for acknowledgement at a time.
const WINDOW: usize = 512;
/// Messages in one request while the ledger is read back.
const LEDGER_BATCH: usize = 1_000;
/// How long such a request waits.
const LEDGER_WAIT: Duration = Duration::from_secs(10);
/// How long a call tries to reach the broker.
const PATIENCE: Duration = Duration::from_secs(10);
/// A sequence that no message has: what expects it is refused. Below 2^53, so that nothing on the way rounds it.
const SEQUENCE_OF_NONE: u64 = (1 << 53) - 1;
/// The first pause between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(2);
