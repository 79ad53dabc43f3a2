#![doc = include_str!("../ARCHITECTURE.md")]

pub mod types;
pub mod error;
pub mod diagnostic;
pub mod definition;
pub mod plan;
pub mod state;
pub mod circuit;
pub mod store;
pub mod source;
pub mod decode;
pub mod batch;
pub mod sink;
pub mod checkpoint;
pub mod runtime;
pub mod cli;
