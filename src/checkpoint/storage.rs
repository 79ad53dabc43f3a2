//! What the log needs of a store.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::error::Result;

/// Where the objects of one pipeline's state lie. An implementor promises:
///
/// - of several calls of `create` for one name at most one ever returns [`Created::Stored`], also over the lives of processes,
///   as long as the object is there; what it stored is read whole or not at all, and outlives the machine's crash;
/// - what `create` has stored is seen by every `read` and `list` that begins after it returned;
/// - an error of kind `Unavailable` says nothing of what became of the call: it may be made again.
///
/// A caller may not assume that an answer [`Created::Exists`] means another writer: a client that tries again by itself may be
/// answered so of its own success.
pub trait LogStore: Send + Sync {
    /// Stores an object under a name that has none.
    fn create<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<Created>>;

    /// The object of a name; none if there is none.
    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>>>;

    /// The names in a folder that sort behind `after`, all of them where it is empty; sorted.
    fn list<'a>(&'a self, folder: &'a str, after: &'a str) -> BoxFuture<'a, Result<Vec<String>>>;

    /// Removes an object; one that is not there is as good.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>>;
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is stored.
    Stored,
    /// Something has that name.
    Exists,
}
