//! SQL to plan: one session for circuit, query and oracle; declared schemas; errors with their place in the SQL.

pub mod functions;
mod batch;
mod check;
mod explain;
mod job;
mod place;
mod predicate;
mod session;
mod size;
mod statement;
mod system;
mod ties;
mod watermark;

pub(crate) use batch::nullable;
pub use batch::{BatchTable, run_batch};
pub use explain::{Explained, diagnose, explain};
pub use job::{PlannedJob, TableSchemas, compile_jobs, plan_jobs};
pub use place::Refusal;
pub use predicate::row_predicate;
pub use session::session;
pub use system::SystemTable;
pub(crate) use system::table_name;
pub use watermark::{Relation, bind_comparisons, bind_value, watermark_comparison};
