//! Sources as the run loop reads them: where each one is, and what was read of it for the next epoch.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::OpenBatch;
use crate::decode::Format;
use crate::definition::pipeline::{Identity, Input, Pipeline};
use crate::error::{Error, ErrorKind, Result};
use crate::source::connect::Broker;
use crate::source::file::FileSource;
use crate::source::jetstream::JetStreamSource;
use crate::source::{Read, ReadLimit, Rest, Source};
use crate::types::{RawMessage, Sequence, SequenceRange};

/// A source as the loop reads it.
pub(super) struct InputState {
    pub(super) source: Box<dyn Source>,
    pub(super) format: Format,
    pub(super) identity: String,
    pub(super) name: Arc<str>,
    pub(super) upsert: bool,
    pub(super) file: bool,
    /// The first sequence that was not taken yet.
    pub(super) next: Sequence,
    /// Where reading is caught up, as of the start.
    pub(super) goal: Sequence,
    pub(super) ended: bool,
}

pub(super) async fn open_inputs(pipeline: &Pipeline, broker: Option<&Broker>) -> Result<Vec<InputState>> {
    let mut inputs = Vec::new();
    for definition in &pipeline.sources {
        let (source, format): (Box<dyn Source>, Format) = match &definition.input {
            Input::File { path, format } => {
                let file = FileSource::open(path, &as_named(pipeline, path), *format)?;
                let format = file.format();
                (Box::new(file), format)
            }
            Input::JetStream { stream, subjects, start } => {
                let broker = broker.ok_or_else(|| Error::internal("no broker for a stream"))?;
                (Box::new(JetStreamSource::open(broker, stream, subjects, *start).await?), Format::Json)
            }
        };
        inputs.push(InputState {
            source,
            format,
            identity: String::new(),
            name: Arc::clone(&definition.name),
            upsert: matches!(definition.identity, Identity::Upsert { .. }),
            file: matches!(definition.input, Input::File { .. }),
            next: 0,
            goal: 0,
            ended: false,
        });
    }
    Ok(inputs)
}

/// A file's path as the pipeline names it: a checkout that was moved still has the same files.
fn as_named(pipeline: &Pipeline, path: &Path) -> String {
    let folder = pipeline.text.path.parent().unwrap_or(Path::new(""));
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned()
}

/// One micro-batch, read and not yet stepped.
pub(super) struct Gathered {
    pub(super) messages: Vec<Vec<RawMessage>>,
    pub(super) ranges: Vec<Option<SequenceRange>>,
}

impl Gathered {
    pub(super) fn new(inputs: usize) -> Self {
        Self { messages: vec![Vec::new(); inputs], ranges: vec![None; inputs] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.iter().all(Option::is_none)
    }

    /// Takes a read into the batch, and moves the input's position behind it.
    pub(super) fn absorb(
        &mut self,
        position: usize,
        input: &mut InputState,
        read: Read,
        batch: &mut OpenBatch,
        now: Duration,
    ) {
        let first = read.messages.first().map_or(read.next, |first| first.sequence);
        let start = if input.next == 0 { first } else { input.next };
        input.ended = read.rest == Rest::End;
        input.next = read.next.max(input.next);
        let (Some(range), Some(messages)) = (self.ranges.get_mut(position), self.messages.get_mut(position)) else {
            return;
        };
        if read.messages.is_empty() {
            return;
        }
        batch.add(read.messages.len(), read.messages.iter().map(|message| message.body.len()).sum(), now);
        range.get_or_insert(SequenceRange { start, end: read.next }).end = read.next;
        messages.extend(read.messages);
    }
}

impl InputState {
    /// An upsert source that has not been read to the end that it had at the start.
    pub(super) fn lags_as_master_data(&self) -> bool {
        self.upsert && !self.ended && (self.file || self.next < self.goal)
    }

    /// Reads exactly a logged range.
    pub(super) async fn read_range(&mut self, range: SequenceRange) -> Result<Vec<RawMessage>> {
        if self.next != range.start {
            self.source.seek(range.start).await?;
        }
        self.next = range.start;
        let mut messages = Vec::new();
        while self.next < range.end {
            let limit = ReadLimit { messages: RERUN_MESSAGES_MAX, before: Some(range.end), wait: RERUN_WAIT };
            let read = self.source.read(limit).await?;
            let stuck = read.messages.is_empty() && read.next <= self.next && read.rest != Rest::More;
            messages.extend(read.messages);
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
        Ok(messages)
    }
}

/// How many messages of a logged range are read at once.
const RERUN_MESSAGES_MAX: usize = 65_536;
/// How long a logged range waits for its next message.
const RERUN_WAIT: Duration = Duration::from_secs(5);
