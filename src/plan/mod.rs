//! SQL to plan: one session for circuit, query and oracle; declared schemas; errors with their place in the SQL.

pub mod functions;
mod arithmetic;
mod batch;
mod canonical;
mod check;
mod exact;
mod explain;
mod job;
mod literals;
mod place;
mod predicate;
mod query;
mod row_order;
mod session;
mod size;
mod statement;
mod system;
mod ties;
mod watermark;
mod windows;

pub(crate) use arithmetic::as_written;
pub(crate) use batch::nullable;
pub use batch::{BatchTable, run_batch};
pub(crate) use exact::exact_mean;
pub(crate) use explain::sql_types;
pub use explain::{Explained, diagnose, explain};
pub use job::{PlannedJob, TableSchemas, compile_jobs, plan_jobs};
pub(crate) use literals::plain_literals;
pub use place::Refusal;
pub use predicate::row_predicate;
pub use query::{QUERY_PATH, Unseen, UnseenTable, run_query};
pub use session::session;
pub use system::SystemTable;
pub(crate) use system::table_name;
pub use watermark::{Relation, bind_comparisons, bind_value, watermark_comparison};
