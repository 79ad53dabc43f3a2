//! plan

pub mod functions;
