//! The run loop: read, step, log, publish, acknowledge, in that order.
//!
//! [`engine`] is synchronous and knows no I/O: raw messages in, changed tables out. [`driver`] moves bytes: it reads the
//! sources, makes each epoch's record durable, and only then lets anything leave the process.

mod budget;
mod clock;
pub mod driver;
pub mod engine;
mod inputs;
pub mod outlets;
pub mod report;
mod sink_check;
mod shared;
pub mod socket;
mod system_tables;
pub mod verify;

pub use shared::{left_status, unkept_sources, was_run};
