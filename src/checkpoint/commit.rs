//! Whether a manifest is committed: facts in, decision out.
//!
//! Law: a manifest is committed when it was stored under a number that none was stored under before. `create` alone does not
//! say that, in two cases. It may answer "exists" of one's own success: then what stands there is what was put, byte for byte. And
//! it may succeed although the number was used before, where a writer was stalled for so long that the manifest that fenced it
//! was folded and pruned meanwhile. Therefore, of two times that both run while a process or its machine stands still:
//!
//! 1. a manifest is pruned no earlier than [`PRUNE_AFTER`] after its writer's successor saw it, and never the newest;
//! 2. a put that ended later than [`LOOK_AFTER`] after its writer last knew the end of the log looks for higher numbers
//!    before anything follows from it. The newest manifest is always there, so whoever was fenced sees it.
//!
//! [`LOOK_AFTER`] is the shorter one by so much that clocks may run at different rates.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::manifest::{Manifest, Writer};
use super::names;
use super::seal::{seal, unseal};
use super::storage::Created;
use crate::error::{Error, ErrorKind, Result};
use crate::types::OutboundMessage;

/// A manifest on its way into the log. It may be asked [`Proposal::next`] and told what came of it again and again, also after
/// an error of the environment.
#[derive(Debug, Clone)]
pub struct Proposal {
    manifest: Arc<Manifest>,
    messages: Arc<[OutboundMessage]>,
    name: String,
    bytes: Bytes,
    /// When its writer last knew that the number before it was the last one; none: it never did.
    seen: Option<Duration>,
    /// Since when nothing can have been behind it unseen: its first request, or a look that found nothing.
    since: Option<Duration>,
    /// When the last look began.
    looked: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It may or may not be stored.
    Open,
    /// Something has its name.
    Occupied,
    /// It is stored; whether its number was used before is not known.
    Doubtful,
    /// It is the one of its number.
    Committed,
}

/// What is to be done for a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutStep {
    /// Store it, and tell [`Proposal::created`].
    Create,
    /// Read what has its name, and tell [`Proposal::stands`].
    Read,
    /// List the manifests behind it, and tell [`Proposal::beyond`] the last one.
    Look,
    /// Nothing more: [`Proposal::committed`].
    Done,
}

/// A manifest that is committed: the key to everything that follows from it. Only the log makes one.
#[derive(Debug, Clone)]
pub struct Committed {
    manifest: Arc<Manifest>,
    messages: Arc<[OutboundMessage]>,
    since: Duration,
}

impl Proposal {
    /// `messages` are those of its outbox. `seen`: when the writer last knew that the manifest before this one was the last, by a clock that doesn't stand still; none:
    /// it never knew, and looks behind the proposal in any case.
    ///
    /// # Errors
    /// `Internal` where it has no JSON form.
    pub fn new(manifest: Manifest, messages: Arc<[OutboundMessage]>, seen: Option<Duration>) -> Result<Self> {
        let name = names::manifest(manifest.number);
        let bytes = seal(&manifest)?.into();
        let (since, looked) = (None, Duration::ZERO);
        Ok(Self { manifest: Arc::new(manifest), messages, name, bytes, seen, since, looked, state: State::Open })
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.manifest.number
    }

    /// What is to be done, at `now`.
    pub fn next(&mut self, now: Duration) -> PutStep {
        match self.state {
            State::Open => {
                self.since.get_or_insert(now);
                PutStep::Create
            }
            State::Occupied => PutStep::Read,
            State::Doubtful => {
                self.looked = now;
                PutStep::Look
            }
            State::Committed => PutStep::Done,
        }
    }

    /// What the store answered, at `now`.
    pub fn created(&mut self, answer: Created, now: Duration) {
        match answer {
            Created::Stored => self.stored(now),
            Created::Exists => self.state = State::Occupied,
        }
    }

    /// What has its name, at `now`; none: nothing any more.
    ///
    /// # Errors
    /// `Fenced`, naming the winner, if another writer put it; `Corrupt` where it is no manifest.
    pub fn stands(&mut self, found: Option<&[u8]>, now: Duration) -> Result<()> {
        match found {
            None => self.state = State::Open,
            Some(bytes) if bytes == self.bytes => self.stored(now),
            Some(bytes) => return Err(self.lost_to(&self.name, bytes)?),
        }
        Ok(())
    }

    /// The last manifest behind it, with its name; none: it is the last itself.
    ///
    /// # Errors
    /// `Fenced`, naming the winner, if there is one; `Corrupt` where it is no manifest.
    pub fn beyond(&mut self, last: Option<(&str, &[u8])>) -> Result<()> {
        if let Some((name, bytes)) = last {
            return Err(self.lost_to(name, bytes)?);
        }
        self.since = Some(self.looked);
        self.state = State::Committed;
        Ok(())
    }

    /// The permit; none as long as something is to be done.
    pub fn committed(&self) -> Option<Committed> {
        let since = self.since.filter(|_| self.state == State::Committed)?;
        Some(Committed { manifest: Arc::clone(&self.manifest), messages: Arc::clone(&self.messages), since })
    }

    fn stored(&mut self, now: Duration) {
        let late = self.seen.is_none_or(|seen| now.saturating_sub(seen) > LOOK_AFTER);
        self.state = if late { State::Doubtful } else { State::Committed };
    }

    fn lost_to(&self, name: &str, bytes: &[u8]) -> Result<Error> {
        let winner: Manifest = unseal(name, bytes)?;
        Ok(fenced(&winner.writer, winner.number))
    }
}

impl Committed {
    /// What the log held when this process made itself its only writer.
    pub(super) fn found(manifest: &Manifest, messages: Arc<[OutboundMessage]>, since: Duration) -> Self {
        Self { manifest: Arc::new(manifest.clone()), messages, since }
    }

    /// The messages of its outbox.
    pub(super) fn messages(&self) -> &[OutboundMessage] {
        &self.messages
    }

    /// What is committed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Since when a manifest behind it can have been put at the earliest.
    pub(super) fn since(&self) -> Duration {
        self.since
    }
}

/// Whether a manifest that was seen at `seen` may be pruned at `now`, if it is folded and not the newest.
pub fn may_prune(seen: Duration, now: Duration) -> bool {
    now.saturating_sub(seen) >= PRUNE_AFTER
}

/// The error of whoever lost a number to `winner`.
pub(super) fn fenced(winner: &Writer, number: u64) -> Error {
    let doing =
        format!("another writer has taken over this pipeline: {winner}, with manifest {number}; this one stops");
    Error::new(ErrorKind::Fenced, doing)
}

/// A put that ended later than this after its writer last knew the end of the log looks again.
pub const LOOK_AFTER: Duration = Duration::from_secs(120);

/// A folded manifest stays for so long after its writer or its writer's successor saw it.
pub const PRUNE_AFTER: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::checkpoint::manifest::Entry;

    fn manifest(number: u64, nonce: &str) -> Manifest {
        let writer = Writer {
            nonce: nonce.to_owned(),
            host: "north".to_owned(),
            process: 7,
            started_at_us: 1_764_000_000_000_000,
        };
        let entry = Entry::Claim { fingerprints: BTreeMap::new() };
        Manifest { number, log: "l".to_owned(), writer, entry, outbox: None }
    }

    fn proposal() -> Proposal {
        Proposal::new(manifest(5, "own"), Arc::default(), Some(after(0))).expect("sealed")
    }

    fn after(seconds: u64) -> Duration {
        Duration::from_secs(1_000 + seconds)
    }

    #[test]
    fn what_was_stored_in_time_is_committed() {
        let mut proposal = proposal();
        assert_eq!(proposal.next(after(1)), PutStep::Create);
        assert!(proposal.committed().is_none(), "nothing may follow from it yet");
        proposal.created(Created::Stored, after(LOOK_AFTER.as_secs()));
        assert_eq!(proposal.next(after(121)), PutStep::Done);
        let committed = proposal.committed().expect("committed");
        assert_eq!((committed.manifest().number, committed.since()), (5, after(1)));
    }

    #[test]
    fn ones_own_earlier_success_is_committed_and_another_writers_is_a_fence() {
        let mut own = proposal();
        assert_eq!(own.next(after(1)), PutStep::Create);
        // The answer was lost; the same call is made again.
        assert_eq!(own.next(after(30)), PutStep::Create);
        own.created(Created::Exists, after(31));
        assert_eq!(own.next(after(31)), PutStep::Read);
        let bytes = own.bytes().clone();
        own.stands(Some(&bytes), after(31)).expect("own");
        assert_eq!(own.next(after(31)), PutStep::Done);
        assert_eq!(
            own.committed().expect("committed").since(),
            after(1),
            "another one may be behind it since the first call"
        );

        let mut other = proposal();
        other.created(Created::Exists, after(1));
        let winner = seal(&manifest(5, "other")).expect("sealed");
        let error = other.stands(Some(&winner), after(1)).expect_err("fenced");
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert!(
            error.to_string().contains("process 7 on `north`, started 2025-11-24T16:00:00Z, with manifest 5"),
            "{error}"
        );
        assert!(other.committed().is_none());
    }

    #[test]
    fn what_was_stored_late_is_committed_only_if_nothing_is_behind_it() {
        let late = || {
            let mut proposal = proposal();
            assert_eq!(proposal.next(after(2)), PutStep::Create);
            proposal.created(Created::Stored, after(LOOK_AFTER.as_secs() + 1));
            assert_eq!(proposal.next(after(130)), PutStep::Look);
            assert!(proposal.committed().is_none());
            proposal
        };
        let mut alone = late();
        alone.beyond(None).expect("the last");
        assert_eq!(alone.committed().expect("committed").since(), after(130));
        let mut stalled = late();
        let newest = seal(&manifest(5_000, "other")).expect("sealed");
        let error = stalled.beyond(Some(("log/x", &newest))).expect_err("fenced");
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert!(error.to_string().contains("with manifest 5000"), "{error}");
        assert!(stalled.committed().is_none());
    }

    #[test]
    fn a_manifest_stays_for_as_long_as_a_writer_may_rest_without_looking() {
        assert!(PRUNE_AFTER > 2 * LOOK_AFTER);
        assert!(!may_prune(after(0), after(PRUNE_AFTER.as_secs() - 1)));
        assert!(may_prune(after(0), after(PRUNE_AFTER.as_secs())));
    }
}
