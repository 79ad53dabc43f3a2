//! A store and a chain in memory, which fail and stand still as they are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use milepost::checkpoint::{Created, LogStore};
use milepost::error::{Error, ErrorKind, Result};

/// What is to go wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It fails before it has an effect.
    Before,
    /// It fails after it had its effect.
    After,
}

/// Decides what goes wrong with the next request, and where a request stands still for a while.
pub(crate) trait Trouble: Send + Sync {
    /// The next request's fault.
    fn fault(&self) -> Fault;

    /// Stands still until the world moves on.
    fn pause(&self) -> BoxFuture<'_, ()>;
}

/// A world in which all goes well, at once.
pub(crate) struct Calm;

impl Trouble for Calm {
    fn fault(&self) -> Fault {
        Fault::None
    }

    fn pause(&self) -> BoxFuture<'_, ()> {
        futures::future::ready(()).boxed()
    }
}

pub(crate) fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "the world is not well")
}

/// Objects that outlive whoever writes them.
pub(crate) type Objects = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// A store as one process sees it.
pub(crate) struct MemoryStore {
    pub(crate) objects: Objects,
    pub(crate) trouble: Arc<dyn Trouble>,
    /// Whether `create` replaces what is there, as a store does that takes a condition and ignores it.
    pub(crate) replaces: bool,
}

impl MemoryStore {
    pub(crate) fn calm() -> Self {
        Self { objects: Objects::default(), trouble: Arc::new(Calm), replaces: false }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap()
    }

    /// One request: `effect` happens once, at one moment.
    async fn request<T>(&self, effect: impl FnOnce(&mut BTreeMap<String, Bytes>) -> T) -> Result<T> {
        self.trouble.pause().await;
        let fault = self.trouble.fault();
        if fault == Fault::Before {
            return Err(unavailable());
        }
        let done = effect(&mut self.objects());
        self.trouble.pause().await;
        if fault == Fault::After { Err(unavailable()) } else { Ok(done) }
    }
}

impl LogStore for MemoryStore {
    fn create<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<Created>> {
        let replaces = self.replaces;
        self.request(move |objects| {
            if objects.contains_key(name) && !replaces {
                return Created::Exists;
            }
            objects.insert(name.to_owned(), bytes);
            Created::Stored
        })
        .boxed()
    }

    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.request(move |objects| objects.get(name).cloned()).boxed()
    }

    fn list<'a>(&'a self, folder: &'a str, after: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        let folder = format!("{folder}/");
        self.request(move |objects| {
            let names = objects.keys().filter(|name| name.starts_with(&folder) && name.as_str() > after);
            names.cloned().collect()
        })
        .boxed()
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        self.request(move |objects| drop(objects.remove(name))).boxed()
    }
}
