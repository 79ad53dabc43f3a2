//! The vocabulary that every module shares: positions, times, raw messages and what becomes of them.

use std::fmt;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// A place in a source: the broker's stream sequence, or the ordinal of a record in a file. The first is 1.
pub type Sequence = u64;

/// A half-open range of sequences: `start` is in it, `end` is not. `3..3` is empty and says "nothing since 3".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct SequenceRange {
    /// The first sequence of the range.
    pub start: Sequence,
    /// The first sequence after the range.
    pub end: Sequence,
}

/// The number of an epoch; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Microseconds since 1970-01-01T00:00:00Z: event times, clocks, watermarks.
pub type Micros = i64;

/// A text that no log, error or report shows: it has no `Display`, and its `Debug` is `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text to itself.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What the broker (or a file) delivered, before it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// The stream's name, or the file's path as the pipeline names it.
    pub stream: Arc<str>,
    /// Where in the stream.
    pub sequence: Sequence,
    /// The subject; empty from files.
    pub subject: Arc<str>,
    /// The broker's timestamp; none from files.
    pub received_at: Option<Micros>,
    /// Headers in the order in which they came; none from files.
    pub headers: Vec<(String, String)>,
    /// The names of the fields, where the body is a CSV record of a file; none otherwise.
    pub columns: Option<Arc<[String]>>,
    /// The payload: a JSON document, one CSV record, or many events, as the header `Content-Type` says.
    pub body: Bytes,
}

/// By what a message is recognised when it is read again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// Where in the stream.
    pub sequence: Sequence,
    /// The broker's timestamp.
    pub stored_at_us: Micros,
    /// The digest of subject, headers and body, in hexadecimal.
    pub sha256: String,
}

impl Anchor {
    /// The anchor of a message; none where it does not come from a broker.
    pub fn of(message: &RawMessage) -> Option<Self> {
        let stored_at_us = message.received_at?;
        let mut digest = Sha256::new();
        let mut part = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        part(message.subject.as_bytes());
        for (name, value) in &message.headers {
            part(name.as_bytes());
            part(value.as_bytes());
        }
        part(&message.body);
        let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { sequence: message.sequence, stored_at_us, sha256 })
    }
}

/// What is to be stored in a stream.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundMessage {
    /// The subject.
    pub subject: String,
    /// The media type of the body.
    pub content_type: String,
    /// The payload.
    pub body: String,
}

/// Records of a file that have types already, in place of as many messages.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRows {
    /// The file's name, as the pipeline names it.
    pub stream: Arc<str>,
    /// The sequence of the first; the others follow one by one.
    pub first: Sequence,
    /// One row a record, as the file has them.
    pub rows: RecordBatch,
}

/// Why an event could not be read as its contract says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Which event of the message, from 0.
    pub index: u32,
    /// A JSON pointer into the event (`/quantity`); empty for the whole; `byte 17` where the text is not JSON at all;
    /// `header Content-Type` where the message says wrongly what it is.
    pub place: String,
    /// The rule that was broken, a stable upper-case code such as `DUPLICATE_KEY` or `REQUIRED`.
    pub rule: &'static str,
    /// The same for a person: lower case, the offending value (shortened) in backticks.
    pub reason: String,
}

/// An event that could not be read, with all that is needed to look at it and to send it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The source that read it.
    pub source: Arc<str>,
    /// The message that it came in. Of a message of many events the body is the event alone, in the same encoding, so that it
    /// can be looked at and sent again with the same headers; all of it where the message could not be taken apart.
    pub message: RawMessage,
    /// What is wrong with it.
    pub rejection: Rejection,
}
