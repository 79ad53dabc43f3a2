//! Everything that links DataFusion, in one binary.

#![expect(clippy::disallowed_methods, reason = "the environment may choose a case")]

mod layout;
mod oracle;
mod schemas;
