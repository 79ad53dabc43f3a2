//! The pipeline file as written, resolved and checked; contracts.
//!
//! A file is read in stages, each of which reports all that it finds: text to a tree that knows its places (`yaml`,
//! `json`), variables (`environment`), the fields as written (`file`, by the tables of `grammar`), and every check that
//! needs no SQL planner (`compile`). The result is a [`pipeline::Pipeline`] that can't be wrong. All of it is pure, apart
//! from `load`.

pub mod contract;
pub mod pattern;
pub mod pipeline;

mod compile;
pub(crate) mod duration;
mod environment;
mod fields;
mod file;
mod fingerprint;
mod grammar;
mod json;
mod load;
mod name;
mod overrides;
mod place;
mod read;
mod schema;
mod share;
mod subject;
mod tree;
mod yaml;

#[cfg(test)]
mod corpus;

pub use compile::{ReadFile, Unreadable, compile};
pub use environment::Environment;
pub(crate) use json::json_place;
pub use load::load;
pub use schema::pipeline_json_schema;
pub(crate) use subject::overlap as subjects_overlap;
