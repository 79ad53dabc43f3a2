//! Sources: where raw messages come from, in stream order, at a position of our own.

pub mod file;
pub mod connect;
pub mod jetstream;
pub mod server;
mod delivery;
mod feed;
pub(crate) mod repeats;
mod stream_settings;
mod stream_state;

pub use stream_settings::Judged;
pub use stream_state::{examine, try_consumer};

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::error::Result;
use crate::types::{Anchor, Micros, RawMessage, RawRows, Sequence, SequenceRange};

/// One input, read in order. An implementor promises:
///
/// - messages come in rising sequence, each once, none skipped that the input holds (sequences may jump where messages
///   were deleted);
/// - reading the range again after [`Source::seek`] gives the same messages, byte for byte;
/// - a fault of the environment is an error of kind `Unavailable` after which `read` may be called again, and never
///   a missing message;
/// - dropping the future of `read` loses nothing: the next `read` goes on where the last completed one ended.
pub trait Source: Send {
    /// The next messages, at least one unless the input has nothing more now: `limit.messages` at most, none at or
    /// beyond `limit.before`. Waits for the first message no longer than `limit.wait`.
    fn read(&mut self, limit: ReadLimit) -> BoxFuture<'_, Result<Read>>;

    /// The first sequence that the next read looks at; none where only that read will tell.
    fn position(&self) -> Option<Sequence> {
        None
    }

    /// Goes on from `next` instead, the first sequence to be read.
    fn seek(&mut self, next: Sequence) -> BoxFuture<'_, Result<()>>;

    /// The first sequence after everything that the input holds now; none where only reading it will tell.
    fn end(&mut self) -> BoxFuture<'_, Result<Option<Sequence>>>;

    /// The same as far as it is known without asking, for lag figures only; never too far.
    fn known_end(&self) -> Option<Sequence> {
        None
    }

    /// Tells the input that everything before `next` is taken care of, for its own lag figures only.
    fn acknowledge(&mut self, next: Sequence) -> BoxFuture<'_, Result<()>>;

    /// Gives back what reading took of the input's own resources, as far as that is quick. Nothing is read after it.
    fn close(&mut self) -> BoxFuture<'_, ()> {
        futures::future::ready(()).boxed()
    }

    /// Identifies what is read, so that a restart can tell that it is still the same: a stream's creation time. Where a read
    /// names a part of the input, that identifies what it read.
    fn identity(&mut self) -> BoxFuture<'_, Result<String>>;

    /// Takes up what was read before, part by part in that order, to be called before anything else; the next read gives the
    /// first sequence again. Returns what of it is no longer as it was, for a person, behind the name of the source; the input
    /// can't be read then. An error of kind `Corrupt` says the same of a stream.
    fn resume<'a>(&'a mut self, taken: &'a [TakenPart]) -> BoxFuture<'a, Result<Option<String>>> {
        async move {
            let identity = self.identity().await?;
            let same = taken.iter().all(|part| part.identity == identity);
            Ok((!same).then(|| "it is not the stream that was read before".to_owned()))
        }
        .boxed()
    }
}

/// What was read of an input, or of a part of it that has an identity of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenPart {
    /// What it was read from.
    pub identity: String,
    /// The half-open range of sequences.
    pub range: SequenceRange,
    /// The last message in it; none for files, and where it is not known.
    pub anchor: Option<Anchor>,
}

/// How much one read may take.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Messages, at most.
    pub messages: usize,
    /// Only sequences below this one.
    pub before: Option<Sequence>,
    /// How long to wait for the first message; zero: only what is there now.
    pub wait: std::time::Duration,
}

/// What one read brought.
#[derive(Debug, Default)]
pub struct Read {
    /// In rising sequence.
    pub messages: Vec<RawMessage>,
    /// Records that have types already, in rising sequence; of a file with them there are no messages.
    pub rows: Vec<RawRows>,
    /// The first sequence that the next read will look at. Beyond the last message's where messages were deleted.
    pub next: Sequence,
    /// What the input has beyond `next`, as far as is known now.
    pub rest: Rest,
    /// Identifies the part of the input that all of this was read from, as a file; none: the input has no parts.
    pub part: Option<Arc<str>>,
    /// What was read before and is no longer as it was, for a person: the input gives nothing more. None as long as all is well.
    pub changed: Option<String>,
}

/// What an input has beyond a read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// More may be there at once.
    #[default]
    More,
    /// Nothing now; later perhaps.
    CaughtUp,
    /// Nothing, ever: the last file's end.
    End,
}

/// The newest broker timestamp in a read, if any.
pub fn newest(read: &Read) -> Option<Micros> {
    read.messages.iter().filter_map(|message| message.received_at).max()
}
