//! Sources as the run loop reads them: where each one is, and what was read of it for the next epoch.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::OpenBatch;
use crate::decode::event_count_hint;
use crate::definition::pipeline::{Identity, Input, Pipeline};
use crate::error::{Error, ErrorKind, Result};
use crate::source::connect::Broker;
use crate::source::file::FileSource;
use crate::source::jetstream::JetStreamSource;
use crate::source::{Read, ReadLimit, Rest, Source, TakenPart};
use crate::types::{Anchor, RawMessage, RawRows, Sequence, SequenceRange};

/// A source as the loop reads it.
pub(super) struct InputState {
    pub(super) source: Box<dyn Source>,
    pub(super) identity: String,
    pub(super) name: Arc<str>,
    pub(super) upsert: bool,
    pub(super) file: bool,
    /// The first sequence that was not taken yet; 0 before anything was.
    pub(super) next: Sequence,
    /// Where reading is caught up, as of the start; of files once it is known.
    pub(super) goal: Sequence,
    /// All files that there were have been read, at least once.
    pub(super) reached: bool,
    /// There is nothing more, ever.
    pub(super) ended: bool,
    /// What was read before and is no longer as it was.
    pub(super) changed: Option<String>,
    /// What was read and had no room in its batch.
    held: Option<Read>,
}

/// Opens all sources of a pipeline; what they need of the disk lies below `state`.
pub(super) async fn open_inputs(pipeline: &Pipeline, broker: Option<&Broker>, state: &Path) -> Result<Vec<InputState>> {
    let mut inputs = Vec::new();
    for definition in &pipeline.sources {
        let source: Box<dyn Source> = match &definition.input {
            Input::Files(files) => Box::new(FileSource::open(files, &definition.contract, state)?),
            Input::JetStream { stream, subjects, start } => {
                let broker = broker.ok_or_else(|| Error::internal("no broker for a stream"))?;
                Box::new(JetStreamSource::open(broker, stream, subjects, *start).await?)
            }
        };
        inputs.push(InputState {
            source,
            identity: String::new(),
            name: Arc::clone(&definition.name),
            upsert: matches!(definition.identity, Identity::Upsert { .. }),
            file: matches!(definition.input, Input::Files(_)),
            next: 0,
            goal: 0,
            reached: false,
            ended: false,
            changed: None,
            held: None,
        });
    }
    Ok(inputs)
}

/// One micro-batch, read and not yet stepped.
pub(super) struct Gathered {
    pub(super) messages: Vec<Vec<RawMessage>>,
    pub(super) rows: Vec<Vec<RawRows>>,
    /// Of each input what was taken, part by part.
    pub(super) taken: Vec<Vec<TakenPart>>,
}

impl Gathered {
    pub(super) fn new(inputs: usize) -> Self {
        Self { messages: vec![Vec::new(); inputs], rows: vec![Vec::new(); inputs], taken: vec![Vec::new(); inputs] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken.iter().all(Vec::is_empty)
    }

    /// Takes a read into the batch, as far as there is room, and moves the input's position behind it. A message is not split:
    /// the last one may carry more events than there was room for. The rest is what the input gives next.
    pub(super) fn absorb(
        &mut self,
        position: usize,
        input: &mut InputState,
        read: Read,
        batch: &mut OpenBatch,
        now: Duration,
    ) {
        let (mut read, events) = input.take(read, batch.room());
        let first = read.messages.first().map(|first| first.sequence).or(read.rows.first().map(|rows| rows.first));
        let start = if input.next == 0 { first.unwrap_or(read.next) } else { input.next };
        input.ended = read.rest == Rest::End;
        input.next = read.next.max(input.next);
        if input.file && read.rest != Rest::More {
            input.reached = true;
            input.goal = input.next;
        }
        if first.is_none() {
            return;
        }
        let bytes = read.messages.iter().map(|message| message.body.len()).sum::<usize>();
        let row_bytes = read.rows.iter().map(|rows| rows.rows.get_array_memory_size()).sum::<usize>();
        batch.add(events, bytes + row_bytes, now);
        let identity = read.part.as_deref().unwrap_or(&input.identity);
        if let Some(taken) = self.taken.get_mut(position) {
            let anchor = read.messages.last().and_then(Anchor::of);
            add_range(taken, identity, SequenceRange { start, end: read.next }, anchor);
        }
        self.messages.get_mut(position).into_iter().for_each(|messages| messages.append(&mut read.messages));
        self.rows.get_mut(position).into_iter().for_each(|rows| rows.append(&mut read.rows));
    }
}

impl InputState {
    /// The next messages: first those that were held back.
    pub(super) async fn read(&mut self, limit: ReadLimit) -> Result<Read> {
        if let Some(held) = self.held.take() {
            return Ok(held);
        }
        let mut read = self.source.read(limit).await?;
        match read.changed.take() {
            Some(changed) => {
                let doing = format!("source `{}`: {changed}", self.name);
                self.changed = Some(changed);
                Err(Error::new(ErrorKind::Corrupt, doing))
            }
            None => Ok(read),
        }
    }

    /// What of a read has room, and how many events that is. The rest is held back.
    fn take(&mut self, read: Read, room: usize) -> (Read, usize) {
        let (fitting, held, events) = split(read, room);
        self.held = held;
        (fitting, events)
    }

    /// The first sequence that was not taken yet, also before anything was.
    pub(super) fn position(&self) -> Sequence {
        if self.next == 0 { self.source.position().unwrap_or(1) } else { self.next }
    }

    /// The first sequence after everything that the input is known to hold; none while nothing is known.
    pub(super) fn known_end(&self) -> Option<Sequence> {
        let goal = (self.goal > 0).then_some(self.goal);
        goal.max(self.source.known_end()).map(|end| end.max(self.position()))
    }

    /// Whether everything was read that there was at the start.
    pub(super) fn caught_up(&self) -> bool {
        if self.file { self.reached } else { self.next >= self.goal }
    }

    /// An upsert source that has not been read to the end that it had at the start.
    pub(super) fn lags_as_master_data(&self) -> bool {
        self.upsert && !self.caught_up()
    }

    /// Goes on from here: what came before is known.
    pub(super) async fn go_on_from(&mut self, next: Sequence) -> Result<()> {
        self.source.seek(next).await?;
        self.next = next;
        Ok(())
    }

    /// Reads exactly a logged range, whose last message was that of the anchor.
    pub(super) async fn read_range(
        &mut self,
        range: SequenceRange,
        anchor: Option<&Anchor>,
    ) -> Result<(Vec<RawMessage>, Vec<RawRows>)> {
        if self.next != range.start {
            self.source.seek(range.start).await?;
        }
        self.next = range.start;
        let (mut messages, mut rows) = (Vec::new(), Vec::new());
        while self.next < range.end {
            let limit = ReadLimit { messages: RERUN_MESSAGES_MAX, before: Some(range.end), wait: RERUN_WAIT };
            let read = self.read(limit).await?;
            let nothing = read.messages.is_empty() && read.rows.is_empty();
            let stuck = nothing && read.next <= self.next && read.rest != Rest::More;
            messages.extend(read.messages);
            rows.extend(read.rows);
            self.next = read.next.max(self.next);
            if stuck {
                let doing = format!(
                    "source `{}` ends at {} where {} was read before: it lost its end",
                    self.name,
                    self.next,
                    range.end - 1
                );
                return Err(Error::new(ErrorKind::Corrupt, doing));
            }
        }
        match anchor {
            Some(anchor) if messages.last().and_then(Anchor::of).as_ref() != Some(anchor) => {
                let doing = format!(
                    "message {} of source `{}` is not the one that was read before: the stream was restored to an older copy, lost its \
                     end, or the message was deleted",
                    anchor.sequence, self.name
                );
                Err(Error::new(ErrorKind::Corrupt, doing))
            }
            _ => Ok((messages, rows)),
        }
    }
}

/// Adds a range to what was taken of an input: it goes on where the last one ended.
pub(super) fn add_range(taken: &mut Vec<TakenPart>, identity: &str, range: SequenceRange, anchor: Option<Anchor>) {
    match taken.last_mut() {
        Some(last) if last.identity == identity => {
            last.range.end = range.end;
            last.anchor = anchor.or_else(|| last.anchor.take());
        }
        _ => taken.push(TakenPart { identity: identity.to_owned(), range, anchor }),
    }
}

/// The messages of a read whose events have room, at least one, the others, and how many events the former carry, as far
/// as is known before they are decoded. Rows were counted by who read them, and have room.
fn split(mut read: Read, room: usize) -> (Read, Option<Read>, usize) {
    let mut events = read.rows.iter().map(|rows| rows.rows.num_rows()).sum();
    let mut fitting = 0;
    for message in &read.messages {
        let count = event_count_hint(message);
        if fitting > 0 && events + count > room {
            break;
        }
        events += count;
        fitting += 1;
    }
    let held = read.messages.split_off(fitting);
    let (Some(last), [_, ..]) = (read.messages.last(), held.as_slice()) else {
        return (read, None, events);
    };
    let next = last.sequence + 1;
    let held = Read { messages: held, next: read.next, rest: read.rest, part: read.part.clone(), ..Read::default() };
    (Read { next, rest: Rest::More, ..read }, Some(held), events)
}

/// How many messages of a logged range are read at once.
const RERUN_MESSAGES_MAX: usize = 65_536;
/// How long a logged range waits for its next message.
const RERUN_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    /// A message that says it is lines, with so many of them; without headers where it is one event.
    fn message(sequence: Sequence, events: usize) -> RawMessage {
        let headers = match events {
            1 => Vec::new(),
            _ => vec![("Content-Type".to_owned(), "application/x-ndjson".to_owned())],
        };
        RawMessage {
            stream: "S".into(),
            sequence,
            subject: "s".into(),
            received_at: None,
            headers,
            columns: None,
            body: "{}\n".repeat(events).into(),
        }
    }

    /// Splits messages of so many events each, at sequences 3, 5, 7 and on; (sequences that fit, next, events, sequences held).
    fn check(events: &[usize], room: usize, fitting: &[Sequence], next: Sequence, count: usize, held: &[Sequence]) {
        let messages: Vec<_> = (3..).step_by(2).zip(events).map(|(at, events)| message(at, *events)).collect();
        let end = 100;
        let sequences = |read: &Read| read.messages.iter().map(|message| message.sequence).collect::<Vec<_>>();
        let (read, rest, found) = split(Read { messages, next: end, rest: Rest::End, ..Read::default() }, room);
        assert_eq!((sequences(&read).as_slice(), read.next, found), (fitting, next, count), "{events:?} in {room}");
        match rest {
            Some(rest) => {
                assert_eq!((sequences(&rest).as_slice(), rest.next, rest.rest), (held, end, Rest::End));
                assert_eq!(read.rest, Rest::More);
            }
            None => assert_eq!((held.len(), read.rest), (0, Rest::End)),
        }
    }

    #[test]
    fn a_batch_takes_whole_messages_as_long_as_their_events_have_room() {
        check(&[], 10, &[], 100, 0, &[]);
        check(&[1, 1, 1], 10, &[3, 5, 7], 100, 3, &[]);
        check(&[1, 1, 1], 2, &[3, 5], 6, 2, &[7]);
        check(&[4, 4, 4], 10, &[3, 5], 6, 8, &[7]);
        check(&[4, 20, 1], 10, &[3], 4, 4, &[5, 7]);
        check(&[20, 1], 10, &[3], 4, 20, &[5]);
        check(&[20], 10, &[3], 100, 20, &[]);
    }
}
