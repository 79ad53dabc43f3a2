//! One epoch in the log.

use serde::{Deserialize, Serialize};

use crate::types::{Anchor, Epoch, Micros, SequenceRange};

/// What an epoch was made of: enough to make it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// Its number; one more than the record's before it.
    pub epoch: Epoch,
    /// The clock; none before anything with a time was read.
    pub clock_us: Option<Micros>,
    /// The watermark; none until every source with an event time has spoken or is idle.
    pub watermark_us: Option<Micros>,
    /// Whether the sources were taken as ended: a source without rows counted as idle.
    pub ended: bool,
    /// What was taken of each source that gave anything, in the pipeline's order.
    pub inputs: Vec<InputRange>,
}

/// What an epoch took of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputRange {
    /// The source.
    pub source: String,
    /// What identifies the stream or file; see [`crate::source::Source::identity`].
    pub identity: String,
    /// The half-open range of sequences.
    pub range: SequenceRange,
    /// The last message in it; none for files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Anchor>,
}
