//! Everything that links DataFusion, in one binary.

mod layout;
mod oracle;
mod schemas;
