//! A table: whole versions of Parquet files behind one symbolic link, so that a reader never sees half an update.
//!
//! ```text
//! <home>/kpi/dispatch_sla  ->  ../.versions/kpi/dispatch_sla/00000007-9c1f2ab04d5e6f70
//! <home>/.versions/kpi/dispatch_sla/00000007-9c1f2ab04d5e6f70/day=2024-03-18/part-00000-00000006-31c4….parquet
//!                                                            /_current.json
//! ```
//!
//! The order of writing, which is what makes it safe to die after any line:
//!
//! 1. files and `_current.json` into `<number>-partial`, all synced, then the directory itself;
//! 2. rename to `<number>-<digest>`, sync the directory above;
//! 3. a new symbolic link renamed over the table's path: this one step makes the version current;
//! 4. collect what is old: versions replaced ten minutes ago, and leftovers of numbers that were passed.
//!
//! What dies before 3 leaves the version before in place. Its number is not used again: a leftover stays until a
//! higher number is current.
//!
//! Rows are sorted by the key, then by the remaining columns, so equal rows give equal files. They are cut into files
//! where their own content says so, and a file whose rows did not change is a hard link to the one before (a copy where
//! the file system has no such links). A table with `partition_by` has a folder for each partition; of those that did not
//! change no row is looked at. A file's name never comes back after it has left the table.
//!
//! In an object store there are no links: there `_current.json` is the pointer, replaced last, to files that never change.

mod disk;
mod draft;
mod encode;
mod layout;
mod manifest;
mod object;
mod objects;
mod partition;
mod rows;
mod schema;
mod store;

#[cfg(test)]
mod object_tests;
#[cfg(test)]
mod partition_tests;
#[cfg(test)]
mod tests;

pub use draft::{Publication, Published, Scope, unpartitioned};
pub use layout::KEPT_FOR;
pub use manifest::{PartitionValues, TableFile, TableMeta};
pub use object::{ObjectTable, ObjectVersion};
pub use partition::unsupported_partition;
pub use rows::FileLimits;
pub use schema::{Unsupported, check_schema, unsupported};
pub use store::{TableStore, TableVersion};
