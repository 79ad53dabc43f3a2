//! Sinks: whole Parquet tables and change streams.

pub mod body;
pub mod change_stream;
pub mod change_target;
pub mod event;
pub mod history;
pub mod ledger;
pub mod subject;
pub mod table;
mod body_schema;

use arrow::record_batch::RecordBatch;
use futures::future::BoxFuture;

use crate::error::Result;
use crate::types::{Epoch, Micros};

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

/// Where a job's changes go. An implementor promises: publishing the same changes again publishes nothing; when the
/// future resolves with `Ok`, everything is stored; after an error of kind `Unavailable` the same call may be made again.
pub trait ChangeSink: Send {
    /// Whether nothing was ever published: no key has a revision.
    fn is_fresh(&self) -> bool;

    /// Publishes what differs between `changes` and what was published before; returns how many messages that took.
    fn publish(&mut self, stamp: Stamp, changes: KeyedChanges) -> BoxFuture<'_, Result<u64>>;

    /// Publishes what differs between the whole table and what was published before: keys that `table` lacks are
    /// revoked. For the first publication after a restart.
    fn reconcile(&mut self, stamp: Stamp, table: RecordBatch) -> BoxFuture<'_, Result<u64>>;
}
