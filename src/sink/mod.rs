//! Sinks: whole Parquet tables and change streams.

pub mod body;
pub mod change_stream;
pub mod change_target;
pub mod changes;
pub mod event;
pub mod history;
pub mod ledger;
pub mod subject;
pub mod table;
mod body_schema;

use crate::types::{Epoch, Micros};
use arrow::record_batch::RecordBatch;

/// What an epoch's end changed in a job, by key: each touched key stands in exactly one of the two batches, once.
#[derive(Debug, Clone)]
pub struct KeyedChanges {
    /// The current rows of touched keys that exist, all columns of the job.
    pub present: RecordBatch,
    /// The keys of touched keys that exist no longer: the key columns only, in the order of the declared key.
    pub gone: RecordBatch,
}

/// When something was true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The epoch.
    pub epoch: Epoch,
    /// The epoch's logged clock; none before anything with a time was read.
    pub clock: Option<Micros>,
    /// The epoch's watermark; none until every source with an event time has spoken.
    pub watermark: Option<Micros>,
}
