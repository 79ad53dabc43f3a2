//! The run loop: read, step, commit, publish, acknowledge, in that order.
//!
//! [`engine`] is synchronous and knows no I/O: raw messages in, changed tables out. [`machine`] says in which order an epoch's
//! effects leave the process. [`driver`] moves bytes: it reads the sources, and does what the two say.

mod budget;
mod clock;
pub mod driver;
pub mod engine;
mod engine_state;
pub mod failpoint;
mod fit;
mod inputs;
mod journal_state;
pub mod machine;
pub mod outlets;
mod publishing;
pub mod report;
mod sink_check;
mod shared;
pub mod socket;
mod system_tables;
pub mod verify;

pub use shared::{left_status, unkept_sources, was_run};
