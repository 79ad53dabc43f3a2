//! The log of epochs: which input ranges each epoch took, and what its clock said.
//!
//! State lives in memory and is rebuilt from the sources: a restart re-runs the logged epochs from exactly their ranges with
//! exactly their clocks, publishes nothing while it does, and goes on behind the last one. A record is durable before
//! anything that follows from its epoch leaves the process.

mod log;
mod record;

pub use log::{EpochLog, HomeLock};
pub use record::{EpochRecord, InputRange};
