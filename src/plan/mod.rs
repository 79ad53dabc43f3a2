//! SQL to plan: one session for circuit, query and oracle; declared schemas; errors with their place in the SQL.

pub mod functions;
mod batch;
mod check;
mod job;
mod place;
mod session;
mod ties;
mod watermark;

pub use batch::{BatchTable, run_batch};
pub use job::{PlannedJob, TableSchemas, compile_jobs};
pub use place::Refusal;
pub use session::session;
pub use watermark::{Relation, bind_comparisons, bind_value, watermark_comparison};
