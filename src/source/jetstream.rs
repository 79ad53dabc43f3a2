//! A JetStream stream as a source, read in stream order at a position of our own.
//!
//! The broker keeps nothing for us: each feed is an ephemeral consumer without acknowledgements that starts where we
//! say. When one ends, for whatever reason (the connection was lost, the server restarted, the consumer was deleted, a
//! message is missing, nothing was heard for too long), the next one starts at the first sequence that didn't arrive,
//! once the stream is known to be the same, to still hold that sequence, and to still hold the last message that
//! arrived as it was. So a stream that was deleted, recreated or cut is an error, never silence and never a gap.
//!
//! ```text
//! handed out │ ready (here) │ in the feed's queue │ on the broker
//!          next                  received
//! ```

#![expect(clippy::disallowed_methods, reason = "an edge: silence and retries are measured in real time")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Message;
use async_nats::jetstream::stream::{ConsumerErrorKind, LastRawMessageErrorKind};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use tokio::sync::watch;

use super::connect::Broker;
use super::delivery::Delivery;
use super::feed::{Feed, Heard, OpenError};
use super::stream_settings::{judge, removes_from_the_front};
use super::stream_state::{StreamState, instant, missing, sequence_at};
use super::{Read, ReadLimit, Rest, Source, TakenPart};
use crate::definition::pipeline::Start;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{Anchor, RawMessage, Sequence};

/// A stream, or what a subject filter selects of it.
pub struct JetStreamSource {
    broker: Broker,
    /// Changes when the connection is lost.
    losses: watch::Receiver<u64>,
    stream: Arc<str>,
    subjects: Vec<String>,
    created_nanos: i128,
    /// Whether the position is ours to insist on; until the first message of `start: all` it is the stream's.
    anchored: bool,
    /// The first sequence that was not handed out.
    next: Sequence,
    /// The first sequence that did not arrive.
    received: Sequence,
    /// Arrived, not handed out.
    ready: VecDeque<RawMessage>,
    /// The largest end of the stream that is known of.
    end_seen: Sequence,
    /// Whether the broker makes room at the front of the stream, so that a gap may be a loss.
    makes_room: bool,
    /// The first sequence of the first gap that was not looked at yet.
    gap: Option<Sequence>,
    /// Whether to ask the broker if silence means that there is nothing.
    confirm_due: bool,
    feed: Option<Feed>,
    /// Since when feeds end without having brought anything, and why the last did.
    fruitless: Option<(Instant, String)>,
    last_subject: Arc<str>,
    last_arrived: Option<Arrived>,
    patience: Duration,
}

/// A message that arrived, to be recognised before reading on behind it.
struct Arrived {
    sequence: Sequence,
    stored_nanos: i64,
    body: Bytes,
}

impl JetStreamSource {
    /// Opens `stream` at `start`, restricted to `subjects` (all of them where empty; `*` and `>` as in NATS).
    ///
    /// # Errors
    /// `Definition` where its retention deletes what is read, where the broker refuses the subjects, or where a `start` by
    /// sequence is not in the stream; `Unavailable` where there is no such stream, or the broker doesn't answer.
    pub async fn open(broker: &Broker, stream: &str, subjects: &[String], start: Start) -> Result<Self> {
        let asked = StreamState::ask(broker, stream).await?;
        let (state, settings) = asked.ok_or_else(|| missing(stream, subjects))?;
        for concern in judge(&settings, subjects).warned {
            tracing::warn!(stream, %concern, "a setting of a stream that is read");
        }
        let next = match start {
            Start::All => state.first,
            Start::Sequence(sequence) => {
                let sequence = sequence.max(1);
                state.check_position(stream, sequence).map_err(|error| {
                    Error::caused(
                        ErrorKind::Definition,
                        format!("the start at sequence {sequence} is not in the stream"),
                        error,
                    )
                })?;
                sequence
            }
            Start::Time(time) => sequence_at(broker, stream, time).await?,
        };
        Ok(Self {
            losses: broker.losses(),
            broker: broker.clone(),
            stream: stream.into(),
            subjects: subjects.to_vec(),
            created_nanos: state.created_nanos,
            anchored: matches!(start, Start::Sequence(_)),
            next,
            received: next,
            ready: VecDeque::new(),
            end_seen: state.end,
            makes_room: removes_from_the_front(&settings),
            gap: None,
            confirm_due: false,
            feed: None,
            fruitless: None,
            last_subject: "".into(),
            last_arrived: None,
            patience: PATIENCE,
        })
    }

    /// How long a read tries to reach the broker before it reports `Unavailable`; ten seconds unless said here.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn read_on(&mut self, limit: ReadLimit) -> Result<Read> {
        let until = Instant::now() + limit.wait;
        loop {
            self.collect(limit.messages);
            self.look_at_gap().await?;
            self.ask_ahead().await;
            // Nothing is awaited between taking messages out and returning them: a dropped read loses none.
            if let Some(read) = self.hand_out(limit) {
                return Ok(read);
            }
            let Some(feed) = &self.feed else {
                self.open_feed_patiently().await?;
                continue;
            };
            if feed.pending() == 0 {
                if self.confirm_due || self.received < self.end_seen {
                    self.confirm().await?;
                    continue;
                }
                if Instant::now() >= until {
                    return Ok(Read {
                        messages: Vec::new(),
                        next: self.advance(limit),
                        rest: Rest::CaughtUp,
                        ..Read::default()
                    });
                }
            }
            self.wait(until).await;
        }
    }

    /// Takes what has arrived, until `messages` are ready.
    fn collect(&mut self, messages: usize) {
        while self.ready.len() < messages.max(1)
            && let Some(heard) = self.feed.as_mut().and_then(Feed::ready)
        {
            self.hear(heard);
        }
        if self.losses.has_changed().unwrap_or(false) {
            self.lose("the connection was lost".to_owned());
        }
    }

    /// Before anything behind a gap is handed out: whether the broker removed what is missing, to make room.
    async fn look_at_gap(&mut self) -> Result<()> {
        let Some(gap) = self.gap else { return Ok(()) };
        match self.ask_state().await {
            Ok(state) => state.check_position(&self.stream, gap)?,
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                // Goes on at the gap, once the broker answers.
                self.ready.retain(|message| message.sequence < gap);
                self.received = gap;
                self.lose(error.chain());
            }
            Err(error) => return Err(error),
        }
        self.gap = None;
        Ok(())
    }

    async fn ask_ahead(&mut self) {
        if let Some(feed) = &mut self.feed
            && let Err(reason) = feed.ask().await
        {
            self.lose(reason);
        }
    }

    /// The messages that are ready within the limit; none: wait for more.
    fn hand_out(&mut self, limit: ReadLimit) -> Option<Read> {
        let before = limit.before.unwrap_or(Sequence::MAX);
        let count = self.ready.partition_point(|message| message.sequence < before).min(limit.messages.max(1));
        if count == 0 && self.ready.is_empty() && self.received < before {
            return None;
        }
        let messages: Vec<RawMessage> = self.ready.drain(..count).collect();
        if let Some(last) = messages.last() {
            self.next = last.sequence + 1;
        }
        let next = self.advance(limit);
        let caught_up = self.ready.is_empty() && self.feed.as_ref().is_some_and(|feed| feed.pending() == 0);
        Some(Read { messages, next, rest: if caught_up { Rest::CaughtUp } else { Rest::More }, ..Read::default() })
    }

    /// Moves the position over sequences that are known to hold nothing, up to the limit.
    fn advance(&mut self, limit: ReadLimit) -> Sequence {
        let before = limit.before.unwrap_or(Sequence::MAX);
        let next_ready = self.ready.front().map_or(self.received, |message| message.sequence);
        if self.ready.is_empty() || next_ready >= before {
            self.next = self.next.max(next_ready.min(before));
        }
        self.next
    }

    /// Waits for the feed, the loss of the connection, or the end of the reader's or our own patience.
    async fn wait(&mut self, until: Instant) {
        let Some(feed) = &mut self.feed else { return };
        let silence = feed.silence_deadline(Instant::now());
        let deadline = if feed.pending() == 0 { until.min(silence) } else { silence };
        tokio::select! {
            heard = feed.next() => self.hear(heard),
            _ = self.losses.changed() => self.lose("the connection was lost".to_owned()),
            () = tokio::time::sleep_until(deadline.into()) => {
                if Instant::now() >= silence {
                    self.lose("nothing was heard from the consumer".to_owned());
                }
            }
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Message(message, delivery) => {
                self.fruitless = None;
                self.accept(message, delivery);
            }
            Heard::Heartbeat => {
                self.fruitless = None;
                self.confirm_due = true;
            }
            Heard::Lost(reason) => self.lose(reason),
        }
    }

    fn accept(&mut self, message: Message, delivery: Delivery) {
        if delivery.stream_sequence < self.received {
            return;
        }
        if self.anchored && self.makes_room && delivery.stream_sequence > self.received {
            self.gap.get_or_insert(self.received);
        }
        self.anchored = true;
        self.received = delivery.stream_sequence + 1;
        self.end_seen = self.end_seen.max(self.received + delivery.pending);
        if *self.last_subject != *message.subject {
            self.last_subject = message.subject.as_str().into();
        }
        self.last_arrived = Some(Arrived {
            sequence: delivery.stream_sequence,
            stored_nanos: delivery.stored_nanos,
            body: message.payload.clone(),
        });
        self.ready.push_back(RawMessage {
            stream: Arc::clone(&self.stream),
            sequence: delivery.stream_sequence,
            subject: Arc::clone(&self.last_subject),
            received_at: Some(delivery.stored_nanos.div_euclid(1_000)),
            headers: message.headers.as_ref().map_or_else(Vec::new, headers),
            columns: None,
            body: message.payload,
        });
    }

    fn lose(&mut self, reason: String) {
        if self.feed.take().is_some() {
            let next = self.received;
            match &self.fruitless {
                Some((_, known)) if *known == reason => {
                    tracing::debug!(stream = %self.stream, next, reason, "the consumer is made anew once more");
                }
                _ => tracing::warn!(stream = %self.stream, next, reason, "the consumer is made anew"),
            }
            let since = self.fruitless.take().map_or_else(Instant::now, |(since, _)| since);
            self.fruitless = Some((since, reason));
        }
    }

    /// Opens a feed, again and again with growing pauses, until patience ends.
    async fn open_feed_patiently(&mut self) -> Result<()> {
        let started = Instant::now();
        if let Some((since, reason)) = self.fruitless.take_if(|(since, _)| since.elapsed() > self.patience) {
            return Err(self.unavailable(since, reason));
        }
        let mut pause = PAUSE_MIN;
        loop {
            let Err(error) = self.open_feed().await else { return Ok(()) };
            if error.kind() != ErrorKind::Unavailable {
                return Err(error);
            }
            if started.elapsed() + pause > self.patience {
                return Err(self.unavailable(started, error.chain()));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn open_feed(&mut self) -> Result<()> {
        // From here on a lost connection ends the feed that is about to be opened.
        self.losses.mark_unchanged();
        let state = self.ask_state().await?;
        if !self.anchored {
            self.received = self.received.max(state.first);
            self.next = self.next.max(state.first);
        }
        state.check_position(&self.stream, self.received)?;
        self.check_last_arrived(&state).await?;
        let opened = Feed::open(self.broker.jetstream(), &self.stream, &self.subjects, self.received).await;
        let feed = opened.map_err(|error| self.not_opened(error))?;
        if feed.pending() == 0 {
            self.received = self.received.max(state.end);
        }
        self.feed = Some(feed);
        Ok(())
    }

    /// What the stream says now, if it is still the one that was opened.
    async fn ask_state(&mut self) -> Result<StreamState> {
        let corrupt = |what: &str| format!("stream `{}` was {what} while it was read", self.stream);
        let asked = StreamState::ask(&self.broker, &self.stream).await;
        let asked = asked.map_err(|error| match error.kind() {
            ErrorKind::Definition => Error::caused(ErrorKind::Corrupt, corrupt("changed"), error),
            _ => error,
        })?;
        let (state, _) = asked.ok_or_else(|| Error::new(ErrorKind::Corrupt, corrupt("deleted")))?;
        state.check_created(&self.stream, self.created_nanos)?;
        self.end_seen = self.end_seen.max(state.end);
        Ok(state)
    }

    /// Whether the stream still holds the last message that arrived as it was, unless it was deleted since.
    async fn check_last_arrived(&self, state: &StreamState) -> Result<()> {
        let Some(arrived) = self.last_arrived.as_ref().filter(|arrived| arrived.sequence >= state.first) else {
            return Ok(());
        };
        let doing = || format!("looking again at message {} of stream `{}`", arrived.sequence, self.stream);
        let unavailable = |cause: String| Error::caused(ErrorKind::Unavailable, doing(), cause);
        let stream = self
            .broker
            .jetstream()
            .get_stream_no_info(&*self.stream)
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let message = match stream.get_raw_message(arrived.sequence).await {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(()),
            Err(error) => return Err(unavailable(error.to_string())),
        };
        if message.time.unix_timestamp_nanos() == i128::from(arrived.stored_nanos) && message.payload == arrived.body {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "message {} of stream `{}` is another one than the one that was read: the stream lost its tail",
                arrived.sequence, self.stream
            ),
        ))
    }

    /// Whether what was read before is still there, and is what it was.
    async fn take_up(&mut self, taken: &[TakenPart]) -> Result<Option<String>> {
        let identity = self.identity().await?;
        if let Some(other) = taken.iter().find(|part| part.identity != identity) {
            let doing =
                format!("the stream is `{identity}` now, and `{}` was read: it was created anew", other.identity);
            return Err(Error::new(ErrorKind::Corrupt, doing));
        }
        let Some(last) = taken.last() else { return Ok(None) };
        let state = self.ask_state().await?;
        state.check_position(&self.stream, last.range.end)?;
        let Some(anchor) = &last.anchor else { return Ok(None) };
        let doing = format!("looking for message {} of stream `{}`", anchor.sequence, self.stream);
        let found = match self.stored(anchor.sequence).await {
            Ok(found) => found,
            Err(cause) => return Err(Error::caused(ErrorKind::Unavailable, doing, cause)),
        };
        let corrupt = |what: &str| {
            let doing = format!(
                "message {} of stream `{}`, the last one that was read, {what}; the one that was read is of `{}`",
                anchor.sequence,
                self.stream,
                instant(i128::from(anchor.stored_at_us) * 1_000)
            );
            Error::new(ErrorKind::Corrupt, doing)
        };
        match found.as_ref().and_then(Anchor::of) {
            Some(found) if found == *anchor => Ok(None),
            Some(_) => Err(corrupt(
                "is another one: the stream was restored to an older copy or lost its end, and its sequences are used again",
            )),
            None => Err(corrupt("is no longer there: it was purged or deleted")),
        }
    }

    /// A message as it stands in the stream; none if it is not there.
    async fn stored(&self, sequence: Sequence) -> Result<Option<RawMessage>, String> {
        let stream = self.broker.jetstream().get_stream_no_info(&*self.stream).await;
        match stream.map_err(|error| error.to_string())?.get_raw_message(sequence).await {
            Ok(message) => Ok(Some(RawMessage {
                stream: Arc::clone(&self.stream),
                sequence: message.sequence,
                subject: message.subject.as_str().into(),
                received_at: i64::try_from(message.time.unix_timestamp_nanos().div_euclid(1_000)).ok(),
                headers: headers(&message.headers),
                columns: None,
                body: message.payload,
            })),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// After silence: whether the stream is still there, and how far it holds nothing for us.
    async fn confirm(&mut self) -> Result<()> {
        self.confirm_due = false;
        let end = match self.ask_state().await {
            Ok(state) => {
                if self.anchored && self.makes_room {
                    state.check_position(&self.stream, self.received)?;
                }
                state.end
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                self.lose(error.chain());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let drained = match &mut self.feed {
            Some(feed) => feed.is_drained().await,
            None => return Ok(()),
        };
        match drained {
            Ok(true) => self.received = self.received.max(end),
            Ok(false) => {}
            Err(reason) => self.lose(reason),
        }
        Ok(())
    }

    async fn seek_to(&mut self, next: Sequence) -> Result<()> {
        let next = next.max(1);
        let state = self.ask_state().await?;
        state.check_position(&self.stream, next)?;
        if next == self.next {
            self.anchored = true;
            return Ok(());
        }
        if let Some(feed) = self.feed.take() {
            feed.close().await;
        }
        self.ready.clear();
        self.gap = None;
        self.next = next;
        self.received = next;
        self.anchored = true;
        self.last_arrived = None;
        Ok(())
    }

    fn not_opened(&self, error: OpenError) -> Error {
        let doing =
            format!("opening a consumer on stream `{}` for subjects `{}`", self.stream, self.subjects.join("`, `"));
        match error {
            OpenError::Consumer(error) => match error.kind() {
                // The broker answers 400 to a consumer that can never be, such as one with overlapping subjects.
                ConsumerErrorKind::JetStream(cause) if cause.code() == 400 => {
                    Error::caused(ErrorKind::Definition, doing, cause)
                }
                _ => Error::caused(ErrorKind::Unavailable, doing, error.to_string()),
            },
            OpenError::Subscribe(cause) => Error::caused(ErrorKind::Unavailable, doing, cause),
        }
    }

    fn unavailable(&self, since: Instant, reason: String) -> Error {
        let complaint =
            self.broker.complaint_since(since).map(|text| format!("; NATS says: {text}")).unwrap_or_default();
        Error::caused(
            ErrorKind::Unavailable,
            format!("reading stream `{}` at {}", self.stream, self.received),
            reason + &complaint,
        )
    }
}

impl Source for JetStreamSource {
    fn read(&mut self, limit: ReadLimit) -> BoxFuture<'_, Result<Read>> {
        self.read_on(limit).boxed()
    }

    fn position(&self) -> Option<Sequence> {
        Some(self.next)
    }

    fn seek(&mut self, next: Sequence) -> BoxFuture<'_, Result<()>> {
        self.seek_to(next).boxed()
    }

    fn end(&mut self) -> BoxFuture<'_, Result<Option<Sequence>>> {
        async { self.ask_state().await.map(|state| Some(state.end)) }.boxed()
    }

    fn known_end(&self) -> Option<Sequence> {
        Some(self.end_seen)
    }

    /// Does nothing: the broker keeps no position of ours.
    fn acknowledge(&mut self, _next: Sequence) -> BoxFuture<'_, Result<()>> {
        futures::future::ready(Ok(())).boxed()
    }

    /// Deletes the consumer, which the broker would keep for two minutes.
    fn close(&mut self) -> BoxFuture<'_, ()> {
        async {
            if let Some(feed) = self.feed.take()
                && tokio::time::timeout(CLOSED_WITHIN, feed.close()).await.is_err()
            {
                tracing::debug!(stream = %self.stream, "the consumer is left to expire");
            }
        }
        .boxed()
    }

    fn resume<'a>(&'a mut self, taken: &'a [TakenPart]) -> BoxFuture<'a, Result<Option<String>>> {
        self.take_up(taken).boxed()
    }

    /// The stream's name and creation time.
    fn identity(&mut self) -> BoxFuture<'_, Result<String>> {
        let identity = format!("{} created {}", self.stream, instant(self.created_nanos));
        futures::future::ready(Ok(identity)).boxed()
    }
}

/// All headers, sorted by name (the client doesn't keep the order between names), values of one name in their order.
fn headers(map: &async_nats::HeaderMap) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = map
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())))
        .collect();
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    headers
}

/// How long the end of a process waits for the broker to forget a consumer.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
/// How long a read tries to reach the broker.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(2);
