//! State: changes with weights, and multisets of rows kept indexed by key.
//!
//! A [`Delta`] is a Z-set: rows with a weight, +1 appears, -1 goes. An [`Arrangement`] is what the deltas of one place in
//! a circuit add up to, indexed by key. Nothing else holds rows.

mod arrangement;
mod chunk;
mod delta;
mod grouping;
mod hash;
mod index;
mod snapshot;
mod table;

pub use arrangement::{Arrangement, Match, RowId};
pub use chunk::Sealed;
pub use delta::Delta;
pub(crate) use delta::{relabel, row_bytes, row_converter, take_rows, with_rows};
pub use grouping::GroupKey;
pub use hash::{NullKeys, hash_rows};
pub(crate) use hash::{equal_pairs, normalise_zero};
pub(crate) use index::KeyIndex;
pub(crate) use snapshot::damaged;
pub use snapshot::{EncodedState, KeptPiece, PieceName, STATE_FORMAT, StateReader, StateWriter};
pub use table::{Partition, Table, TouchedKeys};
