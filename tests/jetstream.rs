//! JetStream as a source and as a sink of changes, against a real nats-server.

#[path = "jetstream/sink.rs"]
mod sink;
#[path = "jetstream/source.rs"]
mod source;
mod support;
