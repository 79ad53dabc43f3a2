//! The commit protocol: what makes an epoch real, who may do that, and what follows from it.
//!
//! State lives in memory and follows from the sources: a restart runs the logged epochs again from exactly their ranges with
//! exactly their clocks, and goes on behind the last one. [`Snapshots`] let it begin later. What makes an epoch real is one object, its [`Manifest`], stored under the
//! next number on the condition that nothing has that number yet. Of two writers one gets it; the other is fenced. So
//! nothing that follows from an epoch leaves the process before its manifest is stored: a [`Committed`] is the key to that, and
//! only [`Log`] makes one.
//!
//! Decisions are pure: [`commit`] takes what the store said and says what is to be done. [`LogStore`] is what the protocol needs
//! of a store; [`ObjectLog`] is that on a local folder or in a bucket.

pub mod chain;
pub mod commit;
pub mod outbox;
mod history;
mod jetstream;
mod local;
mod log;
mod manifest;
mod names;
mod object;
mod outlet;
mod record;
mod recovery;
mod seal;
mod snapshots;
mod storage;

pub use chain::{AckPermit, check_end};
pub use commit::{Committed, Proposal};
pub use history::{History, Logged};
pub use jetstream::JetStreamOutlet;
pub use local::{HomeLock, elapsed};
pub use log::{Elapsed, FOLD_EVERY, Fit, Log, Staged};
pub use manifest::{AdoptedSink, Entry, Manifest, StoredFile, Writer};
pub use object::ObjectLog;
pub use outlet::{Outlet, roll_forward};
pub use record::{EpochRecord, InputRange};
pub use recovery::Owed;
pub use snapshots::{FoundSnapshot, SnapshotBytes, Snapshots, StagedSnapshot, Stager};
pub use storage::{Created, LogStore};
