//! Everything that links DataFusion, in one binary.

#![expect(clippy::disallowed_methods, reason = "the environment may choose a case")]

mod aggregates;
mod budget;
mod canaries;
mod commands;
mod connection;
#[cfg(feature = "harness")]
mod crash;
mod demo;
mod dlq;
mod doctor;
mod end_to_end;
mod error_rows;
mod files;
mod intake;
mod fuzz;
mod growth;
mod history;
mod inventory;
mod keys;
mod late;
mod lost_streams;
mod layout;
mod nexmark;
mod object_store;
mod oracle;
mod own_tables;
mod packed;
mod sql_errors;
mod program;
mod random_sql;
mod restart;
mod retain;
mod retained_keys;
mod retained_source;
mod schemas;
mod sharing;
mod shipped;
mod shipped_data;
mod slt;
mod tables;
mod ties;
mod tpch;
mod verify;
#[path = "../support/mod.rs"]
mod support;
