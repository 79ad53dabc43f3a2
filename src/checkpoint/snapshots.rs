//! Snapshots of the state in the store: what a restart begins from, instead of the log's beginning.
//!
//! A snapshot is an object with all that changes, its *root*, and pieces that are stored once and named by later snapshots too. They
//! are stored under names of their own, which nobody finds; a manifest then says that they are there ([`Entry::Snapshot`]), and
//! which commit they cover. A restart takes up the newest one whose bytes are what was written, and runs again what was logged
//! behind it. So losing all snapshots costs time and nothing else.
//!
//! The last [`KEPT`] are kept. A writer removes only objects that it knows as those of older ones: what another writer has
//! stored bears that one's nonce in its name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::history::{History, read_file};
use super::log::Log;
use super::manifest::{Entry, StoredFile};
use super::names;
use super::seal::{digest, seal, unseal};
use super::storage::{Created, LogStore};
use crate::error::{Error, ErrorKind, Result};

/// The state at one commit, as bytes.
#[derive(Debug)]
pub struct SnapshotBytes {
    /// The number of the last manifest whose effects are in it.
    pub covers: u64,
    /// Everything but the pieces.
    pub root: Bytes,
    /// The pieces that are not stored yet, by the SHA-256 of their bytes in hexadecimal.
    pub new: Vec<(String, Bytes)>,
    /// Every piece that the root names.
    pub names: Vec<String>,
}

/// Where the objects of a snapshot lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    root: StoredFile,
    pieces: Vec<StoredFile>,
}

/// A snapshot that lies in the store.
#[derive(Debug, Clone)]
struct Stored {
    index: StoredFile,
    content: Index,
}

/// The snapshots of a log, as its only writer has them.
pub struct Snapshots {
    store: Arc<dyn LogStore>,
    nonce: String,
    /// In rising order.
    kept: VecDeque<Stored>,
}

/// A snapshot that is stored and not committed.
#[derive(Debug)]
pub struct StagedSnapshot {
    covers: u64,
    stored: Stored,
}

/// What a restart begins from.
#[derive(Debug)]
pub struct FoundSnapshot {
    /// The number of the last manifest whose effects are in it.
    pub covers: u64,
    /// Everything but the pieces.
    pub root: Bytes,
    /// The pieces, by the SHA-256 of their bytes.
    pub pieces: BTreeMap<String, Bytes>,
}

impl Snapshots {
    /// The snapshots that the log names. `nonce` is the writer's.
    pub async fn of(log: &Log, history: &History, nonce: &str) -> Self {
        let store = log.shared_store();
        let mut kept = VecDeque::new();
        for (_, index) in history.snapshots().into_iter().take(KEPT) {
            match read_file(&*store, index).await.and_then(|bytes| unseal::<Index>(&index.name, &bytes)) {
                Ok(content) => kept.push_front(Stored { index: index.clone(), content }),
                Err(error) => tracing::warn!(cause = error.chain(), "a snapshot is passed over"),
            }
        }
        Self { store, nonce: nonce.to_owned(), kept }
    }

    /// The pieces that need not be stored again.
    pub fn pieces(&self) -> BTreeSet<String> {
        self.kept.iter().flat_map(|stored| &stored.content.pieces).map(|piece| piece.sha256.clone()).collect()
    }

    /// The newest snapshot whose bytes are what was written; those that are not are told of and passed over.
    ///
    /// # Errors
    /// `Unavailable`: the store.
    pub async fn newest(&self, history: &History) -> Result<Option<FoundSnapshot>> {
        for (covers, index) in history.snapshots() {
            let Some(stored) = self.kept.iter().find(|stored| stored.index == *index) else { continue };
            match self.read(covers, &stored.content).await {
                Ok(snapshot) => return Ok(Some(snapshot)),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(cause = error.chain(), "a snapshot is passed over");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn read(&self, covers: u64, index: &Index) -> Result<FoundSnapshot> {
        let root = read_file(&*self.store, &index.root).await?;
        let mut pieces = BTreeMap::new();
        for piece in &index.pieces {
            pieces.insert(piece.sha256.clone(), read_file(&*self.store, piece).await?);
        }
        Ok(FoundSnapshot { covers, root, pieces })
    }

    /// What stores a snapshot, elsewhere and while the log goes on.
    pub fn stager(&self) -> Stager {
        let known = self.kept.iter().flat_map(|stored| &stored.content.pieces);
        Stager {
            store: Arc::clone(&self.store),
            nonce: self.nonce.clone(),
            known: known.map(|piece| (piece.sha256.clone(), piece.clone())).collect(),
        }
    }

    /// Takes note that a snapshot is committed, and removes what only older ones needed. What can't be removed is left.
    pub async fn committed(&mut self, staged: StagedSnapshot) {
        self.kept.push_back(staged.stored);
        let mut gone = Vec::new();
        while self.kept.len() > KEPT {
            gone.extend(self.kept.pop_front());
        }
        let needed = self.pieces();
        for old in gone {
            let pieces = old.content.pieces.iter().filter(|piece| !needed.contains(&piece.sha256));
            let files = [&old.index, &old.content.root].into_iter().chain(pieces);
            for file in files {
                if let Err(error) = self.store.remove(&file.name).await {
                    tracing::warn!(cause = error.chain(), "an old snapshot could not be removed");
                }
            }
        }
    }
}

/// Stores the objects of one snapshot.
pub struct Stager {
    store: Arc<dyn LogStore>,
    nonce: String,
    known: BTreeMap<String, StoredFile>,
}

impl Stager {
    /// Stores what is new. It may be called again after an error.
    ///
    /// # Errors
    /// `Unavailable`: the store; `Corrupt`: other bytes lie under a name of this writer.
    pub async fn stage(&mut self, bytes: &SnapshotBytes) -> Result<StagedSnapshot> {
        for (sha256, piece) in &bytes.new {
            if !self.known.contains_key(sha256) {
                let file = self.put(names::piece(sha256, &self.nonce), piece.clone()).await?;
                self.known.insert(sha256.clone(), file);
            }
        }
        let piece = |name: &String| {
            let known = self.known.get(name).cloned();
            known.ok_or_else(|| Error::internal(format!("the piece `{name}` of a snapshot was not stored")))
        };
        let pieces = bytes.names.iter().map(piece).collect::<Result<_>>()?;
        let root = self.put(names::snapshot(bytes.covers, &self.nonce, "state"), bytes.root.clone()).await?;
        let content = Index { root, pieces };
        let index = Bytes::from(seal(&content)?);
        let index = self.put(names::snapshot(bytes.covers, &self.nonce, "json"), index).await?;
        Ok(StagedSnapshot { covers: bytes.covers, stored: Stored { index, content } })
    }

    async fn put(&self, name: String, bytes: Bytes) -> Result<StoredFile> {
        let file = StoredFile { name, size_bytes: bytes.len() as u64, sha256: digest(&bytes) };
        match self.store.create(&file.name, bytes.clone()).await? {
            Created::Stored => {}
            // Of this name only this writer makes one.
            Created::Exists if self.store.read(&file.name).await? == Some(bytes) => {}
            Created::Exists => {
                return Err(Error::new(ErrorKind::Corrupt, format!("`{}` is not what was stored there", file.name)));
            }
        }
        Ok(file)
    }
}

impl StagedSnapshot {
    /// What the log says of it.
    pub fn entry(&self) -> Entry {
        Entry::Snapshot { covers: self.covers, index: self.stored.index.clone() }
    }
}

/// Snapshots that are kept: one may turn out to be damaged.
pub(super) const KEPT: usize = 2;
