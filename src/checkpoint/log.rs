//! The log as one process writes it. What is decided is decided in [`super::commit`]; here it is done.
//!
//! The order at the start: read what is there, see whether it can be gone on with, put a claim behind it (whoever wrote before is
//! fenced from then on), read what came in between. The order of a commit: the objects that it names, the manifest, and only then
//! what follows from it. Every [`FOLD_EVERY`] manifests are folded into one object, and pruned some time later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::commit::{Committed, Proposal, PutStep, may_prune};
use super::history::{History, read_file};
use super::manifest::{Entry, Manifest, StoredFile, Writer};
use super::names;
use super::outbox::{Messages, Outbox};
use super::record::EpochRecord;
use super::recovery::Owed;
use super::seal::{digest, seal, unseal};
use super::storage::{Created, LogStore};
use crate::error::{Error, ErrorKind, Result};
use crate::types::OutboundMessage;

/// A clock for intervals: it never goes back, and goes on while the process or its machine stands still.
pub type Elapsed = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Whether what a log says can be gone on with.
pub type Fit<'a> = &'a (dyn Fn(&History) -> Result<()> + Send + Sync);

/// A pipeline's log, as its only writer has it.
pub struct Log {
    store: Arc<dyn LogStore>,
    writer: Writer,
    /// The log's own name.
    name: String,
    elapsed: Elapsed,
    /// The number of the last manifest.
    head: u64,
    /// When that was known to be the last.
    seen: Duration,
    /// The last number that is folded.
    folded: u64,
    /// How many are folded into one object.
    fold_every: u64,
    /// What is not folded yet.
    unfolded: VecDeque<Manifest>,
    /// Manifests that lie there by themselves, the object with their messages if there is one, and when they were seen.
    single: VecDeque<(u64, Option<String>, Duration)>,
}

impl Log {
    /// Makes `writer` the only one that can commit, and returns what was committed before it. Where `fit` refuses, nothing is
    /// changed, unless another process wrote meanwhile what it refuses.
    ///
    /// # Errors
    /// What `fit` says; `Unavailable`: the store; `Corrupt`: what is there.
    pub async fn open(
        store: Arc<dyn LogStore>,
        writer: Writer,
        elapsed: Elapsed,
        fingerprints: BTreeMap<String, String>,
        fit: Fit<'_>,
    ) -> Result<(Self, History)> {
        let mut history = History::read(&*store).await?;
        fit(&history)?;
        let mut log = Self {
            name: history.log().unwrap_or(&writer.nonce).to_owned(),
            store,
            writer,
            head: history.head(),
            seen: elapsed(),
            elapsed,
            folded: 0,
            fold_every: FOLD_EVERY,
            unfolded: VecDeque::new(),
            single: VecDeque::new(),
        };
        let claim = log.claim(&history, &fingerprints).await?;
        history.read_on(&*log.store, claim.manifest().number).await?;
        fit(&history)?;
        log.folded = history.folded();
        let now = (log.elapsed)();
        let outbox = |number: u64| {
            let at = history.manifests().binary_search_by_key(&number, |manifest| manifest.number).ok()?;
            stored_outbox(history.manifests().get(at)?)
        };
        log.single = history.single().iter().map(|number| (*number, outbox(*number), now)).collect();
        let unfolded = history.manifests().iter().filter(|manifest| manifest.number > log.folded);
        log.unfolded = unfolded.map(Manifest::published).collect();
        log.note(&claim);
        Ok((log, history))
    }

    /// Folds so many manifests into one object instead of [`FOLD_EVERY`]; a log keeps to one number for ever.
    #[must_use]
    pub fn with_fold_every(mut self, manifests: u64) -> Self {
        self.fold_every = manifests;
        self
    }

    /// Puts a claim behind whatever is there. Others may commit all the time: the next number is tried at once.
    async fn claim(&mut self, history: &History, fingerprints: &BTreeMap<String, String>) -> Result<Committed> {
        let mut first = history.head() == 0;
        for _ in 0..CLAIMS_MAX {
            let mut proposal = self.propose_at(Entry::Claim { fingerprints: fingerprints.clone() }, None, None)?;
            proposal.next((self.elapsed)());
            if self.store.create(proposal.name(), proposal.bytes().clone()).await? == Created::Exists {
                let Some(bytes) = self.store.read(proposal.name()).await? else { continue };
                if bytes != *proposal.bytes() {
                    let other: Manifest = unseal(proposal.name(), &bytes)?;
                    if std::mem::take(&mut first) {
                        self.name = other.log;
                    }
                    self.head = other.number;
                    continue;
                }
            }
            proposal.created(Created::Stored, (self.elapsed)());
            // A number that was pruned is no longer in the way: only what is behind it says whether this one is the last.
            proposal.next((self.elapsed)());
            match self.last_beyond(proposal.number()).await? {
                Some((name, bytes)) => self.head = unseal::<Manifest>(&name, &bytes)?.number,
                None => {
                    proposal.beyond(None)?;
                    return proposal.committed().ok_or_else(|| Error::internal("a claim was not committed"));
                }
            }
        }
        let doing = format!("other writers put {CLAIMS_MAX} manifests before this one could");
        Err(Error::new(ErrorKind::Unavailable, doing))
    }

    /// A manifest to be put next.
    ///
    /// # Errors
    /// `Internal` where it has no JSON form.
    pub fn propose(&self, entry: Entry, staged: Option<Staged>) -> Result<Proposal> {
        self.propose_at(entry, staged, Some(self.seen))
    }

    fn propose_at(&self, entry: Entry, staged: Option<Staged>, seen: Option<Duration>) -> Result<Proposal> {
        let (outbox, messages) = staged.map_or_else(Default::default, |staged| (Some(staged.outbox), staged.messages));
        let (number, log, writer) = (self.head + 1, self.name.clone(), self.writer.clone());
        Proposal::new(Manifest { number, log, writer, entry, outbox }, messages, seen)
    }

    /// Commits what was proposed. After an error of kind `Unavailable` it may or may not be committed, and the same call is to be
    /// made again.
    ///
    /// # Errors
    /// `Fenced`, naming the winner; `Unavailable`: the store.
    pub async fn put(&mut self, proposal: &mut Proposal) -> Result<Committed> {
        for _ in 0..STEPS_MAX {
            match proposal.next((self.elapsed)()) {
                PutStep::Create => {
                    let created = self.store.create(proposal.name(), proposal.bytes().clone()).await?;
                    proposal.created(created, (self.elapsed)());
                }
                PutStep::Read => {
                    let found = self.store.read(proposal.name()).await?;
                    proposal.stands(found.as_deref(), (self.elapsed)())?;
                }
                PutStep::Look => {
                    let last = self.last_beyond(proposal.number()).await?;
                    proposal.beyond(last.as_ref().map(|(name, bytes)| (name.as_str(), &bytes[..])))?;
                }
                PutStep::Done => {
                    let committed = proposal.committed().ok_or_else(|| Error::internal("nothing is committed"))?;
                    self.note(&committed);
                    return Ok(committed);
                }
            }
        }
        Err(Error::new(ErrorKind::Unavailable, format!("`{}` does not stand still", proposal.name())))
    }

    /// Stores an object that the next manifest is going to name.
    ///
    /// # Errors
    /// `Unavailable`: the store; `Internal` where it has no JSON form.
    async fn stage(&self, name: String, body: &(impl Serialize + Sync)) -> Result<StoredFile> {
        let bytes = Bytes::from(seal(body)?);
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

    /// Stores the epochs of a generation, which takes the place of all epochs before once it is committed.
    ///
    /// # Errors
    /// As [`Log::put`].
    pub async fn stage_generation(&self, epochs: &[EpochRecord]) -> Result<Entry> {
        Ok(Entry::Generation { epochs: self.stage(self.part(names::EPOCHS), &epochs).await? })
    }

    /// Stores what was published to a stream before it was adopted. `at` tells several of one manifest apart.
    ///
    /// # Errors
    /// As [`Log::put`].
    pub async fn stage_ledger(&self, at: usize, ledger: &(impl Serialize + Sync)) -> Result<StoredFile> {
        self.stage(names::one_part(names::LEDGER, self.head + 1, &self.writer.nonce, at), ledger).await
    }

    /// Stores the messages of an outbox in an object of their own, where they are many.
    ///
    /// # Errors
    /// As [`Log::put`].
    pub async fn stage_outbox(&self, staged: &mut Staged) -> Result<()> {
        if staged.outbox.bytes_here() > MESSAGE_BYTES_HERE_MAX {
            let file = self.stage(self.part(names::OUTBOX), &staged.messages).await?;
            staged.outbox.messages = Messages::Stored(file);
        }
        Ok(())
    }

    fn part(&self, folder: &str) -> String {
        names::part(folder, self.head + 1, &self.writer.nonce)
    }

    /// What is left to be done of an earlier process's publications, before anything new is published. `history` is what this
    /// log was opened with.
    ///
    /// # Errors
    /// `Unavailable`: the store; `Corrupt`: the messages are not what was stored.
    pub async fn owed(&self, history: &History) -> Result<Vec<Owed>> {
        let newest = history.newest();
        let messages: Arc<[OutboundMessage]> = match newest.and_then(|manifest| manifest.outbox.as_ref()) {
            Some(Outbox { messages: Messages::Here(messages), .. }) => messages.as_slice().into(),
            Some(Outbox { messages: Messages::Stored(file), .. }) => {
                unseal::<Vec<OutboundMessage>>(&file.name, &read_file(&*self.store, file).await?)?.into()
            }
            _ => Arc::default(),
        };
        let number = newest.map_or(0, |manifest| manifest.number);
        let commit = |manifest: &Manifest| {
            let messages = if manifest.number == number { Arc::clone(&messages) } else { Arc::default() };
            Arc::new(Committed::found(manifest, messages, self.seen))
        };
        Ok(history.owed(&commit))
    }

    /// An object that a manifest names.
    ///
    /// # Errors
    /// `Unavailable`: the store; `Corrupt`: it is not what was stored.
    pub async fn load<T: DeserializeOwned>(&self, file: &StoredFile) -> Result<T> {
        unseal(&file.name, &read_file(&*self.store, file).await?)
    }

    /// Folds and prunes what is due. What can't be done now is left for the next time.
    pub async fn tend(&mut self) {
        if let Err(error) = self.fold().await {
            tracing::warn!(cause = error.chain(), "the log could not be folded");
        }
        if let Err(error) = self.prune().await {
            tracing::warn!(cause = error.chain(), "old manifests could not be removed");
        }
    }

    /// Where a fold begins and ends does not depend on who folds: two writers make the same object.
    async fn fold(&mut self) -> Result<()> {
        loop {
            let (first, last) = (self.folded + 1, self.folded + self.fold_every);
            // The newest one that may have messages keeps them: they may not be out.
            let newest = self.unfolded.iter().rfind(|manifest| manifest.entry.happened());
            if newest.is_none_or(|newest| newest.number <= last) {
                return Ok(());
            }
            let due = self.unfolded.iter().take_while(|manifest| manifest.number <= last);
            let manifests: Vec<&Manifest> = due.collect();
            if !manifests.iter().map(|manifest| manifest.number).eq(first..=last) {
                return Err(Error::internal(format!("manifests {first} to {last} are not at hand")));
            }
            let name = names::folded(first, last);
            let bytes = Bytes::from(seal(&manifests)?);
            if self.store.create(&name, bytes.clone()).await? == Created::Exists
                && self.store.read(&name).await?.as_ref() != Some(&bytes)
            {
                tracing::warn!(object = name, "a folded part of the log is damaged and is stored anew");
                self.store.remove(&name).await?;
                self.store.create(&name, bytes).await?;
            }
            self.folded = last;
            self.unfolded.retain(|manifest| manifest.number > last);
        }
    }

    async fn prune(&mut self) -> Result<()> {
        let now = (self.elapsed)();
        while let Some((number, outbox, _)) = self
            .single
            .front()
            .filter(|(number, _, seen)| *number <= self.folded.min(self.head - 1) && may_prune(*seen, now))
        {
            if let Some(outbox) = outbox {
                self.store.remove(outbox).await?;
            }
            self.store.remove(&names::manifest(*number)).await?;
            self.single.pop_front();
        }
        Ok(())
    }

    /// Of the manifests behind a number the last one.
    async fn last_beyond(&self, number: u64) -> Result<Option<(String, Bytes)>> {
        for _ in 0..STEPS_MAX {
            let listed = self.store.list(names::LOG, &names::manifest(number)).await?;
            let Some(name) = listed.into_iter().rfind(|name| names::manifest_number(name).is_some()) else {
                return Ok(None);
            };
            if let Some(bytes) = self.store.read(&name).await? {
                return Ok(Some((name, bytes)));
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the log does not stand still"))
    }

    fn note(&mut self, committed: &Committed) {
        self.head = committed.manifest().number;
        self.seen = committed.since();
        let manifest = committed.manifest();
        self.single.push_back((self.head, stored_outbox(manifest), (self.elapsed)()));
        self.unfolded.push_back(manifest.published());
    }

    /// The same, to be held on to.
    pub(super) fn shared_store(&self) -> Arc<dyn LogStore> {
        Arc::clone(&self.store)
    }

    /// Where its objects lie.
    pub fn store(&self) -> &dyn LogStore {
        &*self.store
    }

    /// The number of the last manifest.
    pub fn head(&self) -> u64 {
        self.head
    }
}

/// An outbox on its way into a manifest.
#[derive(Debug, Clone)]
pub struct Staged {
    outbox: Outbox,
    messages: Arc<[OutboundMessage]>,
}

impl Staged {
    /// An outbox whose messages are in it.
    pub fn new(outbox: Outbox) -> Self {
        let messages = match &outbox.messages {
            Messages::Here(messages) => messages.as_slice().into(),
            Messages::Stored(_) | Messages::Published => Arc::default(),
        };
        Self { outbox, messages }
    }
}

/// The object with the messages of a manifest, if they are in one of their own.
fn stored_outbox(manifest: &Manifest) -> Option<String> {
    match &manifest.outbox.as_ref()?.messages {
        Messages::Stored(file) => Some(file.name.clone()),
        Messages::Here(_) | Messages::Published => None,
    }
}

/// Messages of more bytes are stored in an object of their own.
const MESSAGE_BYTES_HERE_MAX: usize = 256 * 1024;
/// Manifests that are folded into one object.
pub const FOLD_EVERY: u64 = 1_000;
/// Numbers that a claim tries.
const CLAIMS_MAX: usize = 10_000;
/// Requests of one commit, where all are answered.
const STEPS_MAX: usize = 16;
