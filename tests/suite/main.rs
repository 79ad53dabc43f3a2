//! Everything that links DataFusion, in one binary.

mod oracle;
mod sql_errors;
