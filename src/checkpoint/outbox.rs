//! What a commit publishes: messages for streams, cut into batches, decided before the commit and never after it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::chain::Link;
use super::manifest::StoredFile;
use super::seal::hexadecimal;
use crate::error::{Error, ErrorKind, Result};
use crate::types::OutboundMessage;

/// The messages of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbox {
    /// The digest of the streams' names and messages, in hexadecimal; it doesn't depend on how they are cut.
    pub sha256: String,
    /// The streams, and how the messages are cut.
    pub streams: Vec<StreamPart>,
    /// The messages, stream by stream.
    pub messages: Messages,
}

/// What of an outbox goes to one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamPart {
    /// The stream.
    pub stream: String,
    /// The end of its chain, which the first batch follows.
    pub after: Link,
    /// How many messages each batch has, its marker not counted; each has at least one.
    pub batches: Vec<usize>,
}

/// Where the messages of an outbox are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Messages {
    /// Here.
    Here(Vec<OutboundMessage>),
    /// In an object of their own.
    Stored(StoredFile),
    /// No longer kept: they are published.
    Published,
}

/// The messages of a commit before it is known which batches they follow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// By stream, each in the order in which its messages shall be stored.
    pub streams: Vec<(String, Vec<OutboundMessage>)>,
}

/// How much goes into one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    /// Bytes of a message with its subject and headers, at most.
    pub message_bytes_max: usize,
    /// Bytes of all messages of a batch, at most, where there is more than one.
    pub batch_bytes_max: usize,
}

impl Draft {
    /// Adds messages of a stream behind those that it has.
    pub fn add(&mut self, stream: &str, messages: Vec<OutboundMessage>) {
        if messages.is_empty() {
            return;
        }
        match self.streams.iter_mut().find(|(name, _)| name == stream) {
            Some((_, known)) => known.extend(messages),
            None => self.streams.push((stream.to_owned(), messages)),
        }
    }

    /// Whether nothing is to be published.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The digest that the outbox will have; none where there is nothing in it.
    pub fn digest(&self) -> Option<String> {
        let mut digest = Sha256::new();
        let mut text = |text: &str| {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        };
        for (stream, messages) in &self.streams {
            text(stream);
            text(&messages.len().to_string());
            for OutboundMessage { subject, content_type, body } in messages {
                [subject, content_type, body].into_iter().for_each(|part| text(part));
            }
        }
        (!self.is_empty()).then(|| hexadecimal(&digest.finalize()))
    }

    /// The outbox; none where there is nothing in it. `ends` has the end of each stream's chain and how much a batch takes there.
    ///
    /// # Errors
    /// `Limit`, naming the subject, where a message is too large for its stream; `Internal` where a stream has no end.
    pub fn outbox(self, ends: &dyn Fn(&str) -> Option<(Link, BatchSize)>) -> Result<Option<Outbox>> {
        let Some(sha256) = self.digest() else { return Ok(None) };
        let (mut streams, mut all) = (Vec::new(), Vec::new());
        for (stream, messages) in self.streams {
            let (after, size) =
                ends(&stream).ok_or_else(|| Error::internal(format!("stream `{stream}` was not opened")))?;
            let batches = cut(&stream, &messages, size)?;
            streams.push(StreamPart { stream, after, batches });
            all.extend(messages);
        }
        Ok(Some(Outbox { sha256, streams, messages: Messages::Here(all) }))
    }
}

impl Outbox {
    /// The same without its messages: what is kept of a commit that is long published.
    pub(super) fn published(&self) -> Self {
        Self { sha256: self.sha256.clone(), streams: self.streams.clone(), messages: Messages::Published }
    }

    /// The bytes of its messages, as far as they are here.
    pub(super) fn bytes_here(&self) -> usize {
        match &self.messages {
            Messages::Here(messages) => messages.iter().map(bytes).sum(),
            Messages::Stored(_) | Messages::Published => 0,
        }
    }
}

impl StreamPart {
    /// Messages in all batches.
    pub fn messages(&self) -> usize {
        self.batches.iter().sum()
    }
}

/// Cuts messages into batches: the first ones are as full as they may be.
fn cut(stream: &str, messages: &[OutboundMessage], size: BatchSize) -> Result<Vec<usize>> {
    let mut batches = Vec::new();
    let (mut count, mut filled) = (0, 0);
    for message in messages {
        let bytes = bytes(message);
        if bytes > size.message_bytes_max {
            let doing = format!(
                "the message for `{}` has {bytes} bytes, and stream `{stream}` takes {}",
                message.subject, size.message_bytes_max
            );
            return Err(Error::new(ErrorKind::Limit, doing));
        }
        if count == BATCH_MESSAGES_MAX || (count > 0 && filled + bytes > size.batch_bytes_max) {
            batches.push(count);
            (count, filled) = (0, 0);
        }
        count += 1;
        filled += bytes;
    }
    batches.extend((count > 0).then_some(count));
    Ok(batches)
}

/// What a message takes: its subject counts twice, in the protocol and in the store; headers are short.
fn bytes(message: &OutboundMessage) -> usize {
    message.body.len() + message.content_type.len() + message.subject.len() + HEADER_BYTES
}

/// Messages of a batch beside its marker. The broker takes 1,000 in all.
pub const BATCH_MESSAGES_MAX: usize = 999;
/// What the headers of a message of a batch take at most.
const HEADER_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subject: &str, bytes: usize) -> OutboundMessage {
        OutboundMessage { subject: subject.to_owned(), content_type: String::new(), body: "x".repeat(bytes) }
    }

    fn check(bodies: &[usize], size: BatchSize, expected: &[usize]) {
        let messages: Vec<_> = bodies.iter().map(|bytes| message("", *bytes)).collect();
        assert_eq!(cut("s", &messages, size).expect("they fit"), expected, "{bodies:?}");
    }

    #[test]
    fn messages_are_cut_by_number_and_by_bytes() {
        let size = BatchSize { message_bytes_max: 2_000, batch_bytes_max: 3_000 };
        check(&[], size, &[]);
        check(&[1], size, &[1]);
        check(&[1_488, 1_488, 488, 488], size, &[1, 2, 1]);
        let wide = BatchSize { message_bytes_max: 2_000, batch_bytes_max: usize::MAX };
        check(&[1; 2_500], wide, &[999, 999, 502]);
        check(&[1; 999], wide, &[999]);
    }

    #[test]
    fn a_message_that_no_batch_can_carry_is_refused_before_the_commit() {
        let size = BatchSize { message_bytes_max: 1_000, batch_bytes_max: 10_000 };
        let error = cut("s", &[message("a.b", 600)], size).expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(
            error.to_string().starts_with("the message for `a.b` has 1115 bytes, and stream `s` takes 1000"),
            "{error}"
        );
    }

    #[test]
    fn the_digest_tells_messages_apart_and_not_how_they_are_cut() {
        let draft = |stream: &str, subjects: &[&str]| {
            let mut draft = Draft::default();
            draft.add(stream, subjects.iter().map(|subject| message(subject, 1_000)).collect());
            draft
        };
        let outbox = |batch_bytes_max| {
            let size = BatchSize { message_bytes_max: 10_000, batch_bytes_max };
            draft("s", &["a", "b"]).outbox(&|_| Some((Link::default(), size))).expect("fits").expect("not empty")
        };
        let (one, two) = (outbox(100_000), outbox(10));
        assert_eq!((&one.streams[0].batches[..], &two.streams[0].batches[..]), (&[2][..], &[1, 1][..]));
        assert_eq!(one.sha256, two.sha256);
        assert_eq!(Some(one.sha256), draft("s", &["a", "b"]).digest());
        for other in [draft("s", &["b", "a"]), draft("t", &["a", "b"]), draft("s", &["a"])] {
            assert_ne!(other.digest(), draft("s", &["a", "b"]).digest());
        }
        assert_eq!(draft("s", &[]).digest(), None);
    }
}
