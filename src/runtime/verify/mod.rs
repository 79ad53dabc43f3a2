//! The second path to every table: the logged ranges are read and decoded again, taken in by rules written a second time, and
//! each job's SELECT is run once by DataFusion. No operator of the circuit and no arrangement has a part in it, so that what
//! it finds can't be wrong in the same way.
//!
//! [`Recomputation`] goes through the epochs once, upwards, and can be stopped at any of them to ask for the tables as they
//! stood then. [`compare`] tells two sets of rows apart, [`ChangeHistory`] looks at what a change stream says of a job.

mod accept;
mod compare;
mod recompute;
mod stream_history;

pub use compare::{Difference, Multiset, compare};
pub use recompute::{Recomputation, Recomputed, last_logged};
pub use stream_history::{ChangeHistory, LastChange};
