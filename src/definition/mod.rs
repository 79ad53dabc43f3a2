//! The pipeline file as written, resolved and checked; contracts.

pub mod contract;
pub mod pipeline;
