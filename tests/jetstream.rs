//! JetStream as a source and as a sink of changes, against a real nats-server.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests of a real broker run in real time, and stop at what they did not expect"
)]

#[path = "jetstream/connection.rs"]
mod connection;
#[path = "jetstream/fakes.rs"]
mod fakes;
#[path = "jetstream/log.rs"]
mod log;
#[path = "jetstream/protocol.rs"]
mod protocol;
#[path = "jetstream/sink.rs"]
mod sink;
#[path = "jetstream/source.rs"]
mod source;
mod support;
