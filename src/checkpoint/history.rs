//! What a log says, read without changing it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::manifest::{AdoptedSink, Entry, Manifest, StoredFile};
use super::names;
use super::record::EpochRecord;
use super::seal::{digest, unseal};
use super::storage::LogStore;
use crate::error::{Error, ErrorKind, Result};

/// The manifests of a log, the first at its beginning.
#[derive(Debug, Clone, Default)]
pub struct History {
    manifests: Vec<Manifest>,
    /// The last number that is folded.
    folded: u64,
    /// The numbers whose manifests lie there by themselves.
    single: Vec<u64>,
}

impl History {
    /// Reads a log. Manifests that were folded are read from there.
    ///
    /// # Errors
    /// `Unavailable`: the store. `Corrupt`, naming the object: one is damaged, or a number is missing.
    pub async fn read(store: &dyn LogStore) -> Result<Self> {
        let mut history = Self::default();
        history.read_on(store, u64::MAX).await?;
        Ok(history)
    }

    /// Reads what came since, up to and without the number `end`.
    ///
    /// # Errors
    /// As [`History::read`].
    pub(super) async fn read_on(&mut self, store: &dyn LogStore, end: u64) -> Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            if self.attempt(store, end).await? {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the log does not stand still"))
    }

    /// False where a manifest was pruned after it was listed.
    async fn attempt(&mut self, store: &dyn LogStore, end: u64) -> Result<bool> {
        // In this order: what is pruned before it could be listed is folded by then.
        let listed = store.list(names::LOG, "").await?;
        let folded = store.list(names::FOLDED, "").await?;
        self.single = listed.iter().filter_map(|name| names::manifest_number(name)).filter(|at| *at < end).collect();
        for (first, last) in folded.iter().filter_map(|name| names::folded_range(name)) {
            // Also where only its beginning is asked for: a number that was pruned may bear what a fenced writer put there since.
            if last > self.head() && first < end {
                let known = self.single.iter().filter(|at| (first..=last).contains(*at)).count() as u64;
                match read_folded(store, first..=last).await {
                    Ok(mut manifests) => {
                        manifests.retain(|manifest| manifest.number < end);
                        self.take(manifests)?;
                    }
                    // A damaged copy does no harm as long as what it is a copy of is there.
                    Err(error)
                        if error.kind() == ErrorKind::Corrupt
                            && known == last.min(end.saturating_sub(1)) - first + 1 =>
                    {
                        tracing::warn!(
                            cause = error.chain(),
                            "a folded part of the log is damaged: its manifests are read one by one"
                        );
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.folded = self.folded.max(last.min(end.saturating_sub(1)));
        }
        let head = self.head();
        let rest = self.single.iter().copied().filter(|number| *number > head).collect::<Vec<_>>();
        let read = |number: u64| async move {
            let name = names::manifest(number);
            Ok::<_, Error>(store.read(&name).await?.map(|bytes| (name, bytes)))
        };
        let found: Vec<Option<(String, Bytes)>> =
            stream::iter(rest.iter().copied().map(read)).buffered(READS_AT_ONCE).try_collect().await?;
        // What was pruned since it was listed may bear what a fenced writer put there: whatever is pruned was folded before.
        let since = store.list(names::FOLDED, "").await?;
        let new = since.iter().filter(|name| !folded.contains(name)).filter_map(|name| names::folded_range(name));
        if new.into_iter().any(|(first, last)| rest.iter().any(|number| (first..=last).contains(number))) {
            return Ok(false);
        }
        for found in found {
            let Some((name, bytes)) = found else { return Ok(false) };
            self.take(vec![unseal(&name, &bytes)?])?;
        }
        Ok(true)
    }

    fn take(&mut self, manifests: Vec<Manifest>) -> Result<()> {
        for manifest in manifests {
            let (due, log) = (self.head() + 1, self.log().unwrap_or(&manifest.log));
            if manifest.number < due {
                continue;
            }
            let name = names::manifest(manifest.number);
            if manifest.number > due {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("`{}` is missing, and `{name}` is there", names::manifest(due)),
                ));
            }
            if *log != manifest.log {
                return Err(Error::new(ErrorKind::Corrupt, format!("`{name}` is of another log than those before it")));
            }
            self.manifests.push(manifest);
        }
        Ok(())
    }

    /// The number of the last manifest; 0 before the first.
    pub fn head(&self) -> u64 {
        self.manifests.last().map_or(0, |manifest| manifest.number)
    }

    /// The log's own name; none before its first manifest.
    pub fn log(&self) -> Option<&str> {
        self.manifests.first().map(|manifest| manifest.log.as_str())
    }

    /// All manifests, by number.
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// What is to be run again to be where the log's end is: the last generation, if everything was read again once, and what
    /// came after it.
    pub fn since_generation(&self) -> &[Manifest] {
        let is_generation = |manifest: &Manifest| matches!(manifest.entry, Entry::Generation { .. });
        let start = self.manifests.iter().rposition(is_generation).unwrap_or(0);
        self.manifests.get(start..).unwrap_or_default()
    }

    /// What is to be run again, in order.
    ///
    /// # Errors
    /// `Unavailable`: the store. `Corrupt`: the epochs of a generation are damaged, or an epoch's number is not the next one.
    pub async fn course(&self, store: &dyn LogStore) -> Result<Vec<Logged>> {
        let mut course: Vec<Logged> = Vec::new();
        let mut due = 1;
        for manifest in self.since_generation() {
            let sha256 = manifest.outbox.as_ref().map(|outbox| outbox.sha256.clone());
            match &manifest.entry {
                Entry::Claim { .. } | Entry::Snapshot { .. } => {}
                Entry::Epoch(record) => course.push(Logged::Epoch { record: in_turn(record, &mut due)?, sha256 }),
                Entry::Generation { epochs } => {
                    let records: Vec<EpochRecord> = unseal(&epochs.name, &read_file(store, epochs).await?)?;
                    for record in &records {
                        course.push(Logged::Epoch { record: in_turn(record, &mut due)?, sha256: None });
                    }
                }
                Entry::Adopt { sinks, .. } => course.push(Logged::Adopt { sinks: sinks.clone(), sha256 }),
            }
        }
        Ok(course)
    }

    /// The snapshots that the log names, the newest first: the number of the last manifest that each covers, and its index.
    pub(super) fn snapshots(&self) -> Vec<(u64, &StoredFile)> {
        let current = self.since_generation();
        let first = current.first().map_or(0, |manifest| manifest.number);
        let snapshots = current.iter().rev().filter_map(|manifest| match &manifest.entry {
            Entry::Snapshot { covers, index } if *covers >= first => Some((*covers, index)),
            _ => None,
        });
        snapshots.collect()
    }

    /// How many of the entries of [`History::course`] come behind the manifest of this number, which is of the current
    /// generation.
    pub fn behind(&self, number: u64) -> usize {
        let later = self.since_generation().iter().filter(|manifest| manifest.number > number);
        later.filter(|manifest| matches!(manifest.entry, Entry::Epoch(_) | Entry::Adopt { .. })).count()
    }

    /// The fingerprints of what was run last, by what they are of; none where nothing was.
    pub fn fingerprints(&self) -> Option<&BTreeMap<String, String>> {
        self.manifests.iter().rev().find_map(|manifest| match &manifest.entry {
            Entry::Claim { fingerprints } => Some(fingerprints),
            _ => None,
        })
    }

    /// Whether anything was ever computed.
    pub fn has_epochs(&self) -> bool {
        let is_epoch = |manifest: &Manifest| matches!(manifest.entry, Entry::Epoch(_) | Entry::Generation { .. });
        self.manifests.iter().any(is_epoch)
    }

    /// The last number that is folded; 0: none.
    pub(super) fn folded(&self) -> u64 {
        self.folded
    }

    /// The numbers whose manifests lie there by themselves, folded or not.
    pub(super) fn single(&self) -> &[u64] {
        &self.single
    }
}

/// What the log says happened, to be done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logged {
    /// An epoch.
    Epoch {
        /// What it took.
        record: EpochRecord,
        /// The digest of its messages; none: it has none, or belongs to a generation that was read in silence.
        sha256: Option<String>,
    },
    /// From here on changes are published.
    Adopt {
        /// Where to.
        sinks: Vec<AdoptedSink>,
        /// The digest of the messages that brought them to where the tables stood.
        sha256: Option<String>,
    },
}

impl Logged {
    /// An epoch without messages.
    pub fn in_silence(record: EpochRecord) -> Self {
        Self::Epoch { record, sha256: None }
    }

    /// The epoch, if it is one.
    pub fn into_epoch(self) -> Option<EpochRecord> {
        match self {
            Self::Epoch { record, .. } => Some(record),
            Self::Adopt { .. } => None,
        }
    }
}

/// The record, if its number is the one that is due.
fn in_turn(record: &EpochRecord, due: &mut u64) -> Result<EpochRecord> {
    if record.epoch.0 != *due {
        let doing = format!("the log has epoch {} where {due} is due", record.epoch);
        return Err(Error::new(ErrorKind::Corrupt, doing));
    }
    *due += 1;
    Ok(record.clone())
}

async fn read_folded(store: &dyn LogStore, range: RangeInclusive<u64>) -> Result<Vec<Manifest>> {
    let name = names::folded(*range.start(), *range.end());
    let missing = || Error::new(ErrorKind::Corrupt, format!("`{name}` was listed and is not there"));
    let manifests: Vec<Manifest> = unseal(&name, &store.read(&name).await?.ok_or_else(missing)?)?;
    if !manifests.iter().map(|manifest| manifest.number).eq(range) {
        return Err(Error::new(ErrorKind::Corrupt, format!("`{name}` does not hold what its name says")));
    }
    Ok(manifests)
}

/// An object that a manifest names, if it is what the manifest says.
///
/// # Errors
/// `Unavailable`: the store. `Corrupt`: it is not.
pub(super) async fn read_file(store: &dyn LogStore, file: &StoredFile) -> Result<Bytes> {
    let corrupt = |what: String| Error::new(ErrorKind::Corrupt, format!("`{}` {what}", file.name));
    let bytes =
        store.read(&file.name).await?.ok_or_else(|| corrupt("is missing, and a manifest names it".to_owned()))?;
    if bytes.len() as u64 != file.size_bytes || digest(&bytes) != file.sha256 {
        return Err(corrupt(format!("is damaged: it has not the {} bytes that were written", file.size_bytes)));
    }
    Ok(bytes)
}

/// Manifests that are read at once.
const READS_AT_ONCE: usize = 16;
/// How often the log is listed anew, where it is pruned meanwhile.
const ATTEMPTS_MAX: usize = 5;
