//! A [`LogStore`] on an object store.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::storage::{Created, LogStore};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{self, Condition};

/// The objects below a prefix of a store.
pub struct ObjectLog {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The place, for people.
    shown: String,
}

impl ObjectLog {
    /// The objects below `prefix`; `shown` is how people name that.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, shown: impl Into<String>) -> Self {
        Self { store, prefix, shown: shown.into() }
    }

    /// Tries once whether the store keeps the condition that commits rest on. `nonce` makes a name that nobody else uses.
    ///
    /// # Errors
    /// `Definition` if it doesn't; `Unavailable`: the store.
    pub async fn probe(&self, nonce: &str) -> Result<()> {
        let name = format!("probe-{nonce}");
        let kept = store::keeps_conditions(&*self.store, &self.path(&name)?, &[Condition::Create]).await;
        if kept.map_err(|error| self.failed("try", &name, &error))? {
            return Ok(());
        }
        let doing = format!(
            "the store of `{}` ignores `If-None-Match`: two writers could commit over each other there; use a store that keeps it",
            self.shown
        );
        Err(Error::new(ErrorKind::Definition, doing))
    }

    fn path(&self, name: &str) -> Result<Path> {
        let whole = if self.prefix.as_ref().is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Path::parse(whole).map_err(|error| Error::caused(ErrorKind::Internal, format!("naming `{name}`"), error))
    }

    fn failed(&self, verb: &str, name: &str, error: &object_store::Error) -> Error {
        store::failed(format!("cannot {verb} `{}/{name}`", self.shown), error)
    }
}

impl LogStore for ObjectLog {
    fn create<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<Created>> {
        async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(&self.path(name)?, bytes.into(), options).await {
                Ok(_) => Ok(Created::Stored),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    Ok(Created::Exists)
                }
                Err(error) => Err(self.failed("store", name, &error)),
            }
        }
        .boxed()
    }

    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>>> {
        async move {
            let found = match self.store.get(&self.path(name)?).await {
                Ok(found) => found.bytes().await,
                Err(error) => Err(error),
            };
            match found {
                Ok(bytes) => Ok(Some(bytes)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(self.failed("read", name, &error)),
            }
        }
        .boxed()
    }

    fn list<'a>(&'a self, folder: &'a str, after: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        async move {
            let path = self.path(folder)?;
            let listed = match after {
                "" => self.store.list(Some(&path)),
                after => self.store.list_with_offset(Some(&path), &self.path(after)?),
            };
            let found: Vec<_> = listed.try_collect().await.map_err(|error| self.failed("list", folder, &error))?;
            let below = |path: &Path| {
                let name = path.as_ref().strip_prefix(self.prefix.as_ref())?;
                Some(name.trim_start_matches('/').to_owned())
            };
            let mut names: Vec<String> = found.iter().filter_map(|object| below(&object.location)).collect();
            names.sort_unstable();
            Ok(names)
        }
        .boxed()
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        async move {
            match self.store.delete(&self.path(name)?).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.failed("remove", name, &error)),
            }
        }
        .boxed()
    }
}
