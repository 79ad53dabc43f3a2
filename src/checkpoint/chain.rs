//! Which batch of an outbox is to be published next: facts in, decision out.
//!
//! Law: of one pipeline's batches on one stream each ends in a marker message, on a subject that nobody else writes to, which is
//! stored on the condition that the last marker is that of the batch before it. So the markers are a chain, every batch is
//! stored once at most, and only behind its predecessor. The last marker says which batch was stored last: an outcome that is not
//! known is known once it is read. Whoever finds a marker there that its log can't have been followed by is not the writer any more,
//! or the stream is not the one it was.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::commit::Committed;
use super::manifest::Entry;
use super::outbox::StreamPart;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{OutboundMessage, Sequence};

/// What a marker message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marker {
    /// The log whose commit it is of.
    pub log: String,
    /// The number of the manifest.
    pub manifest: u64,
    /// Which batch of that manifest's outbox on this stream; the first is 0.
    pub batch: usize,
    /// How many batches it has there.
    pub batches: usize,
}

/// The last marker of a chain, as it stands in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMarker {
    /// Its stream sequence.
    pub sequence: u64,
    /// What it says; none where that is not understood.
    pub marker: Option<Marker>,
}

/// The end of a chain, for who goes on with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The stream sequence of the last marker; 0 before the first.
    pub sequence: u64,
    /// What it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<Marker>,
}

/// One stream's part of a commit on its way out. It is made of a commit, and of nothing else: so nothing is published before its
/// commit.
#[derive(Debug, Clone)]
pub struct Roll {
    committed: Arc<Committed>,
    part: usize,
    /// Whether it is known to be out: then nothing may be published again.
    settled: bool,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Unknown,
    Next { batch: usize, expects: u64 },
    Done(u64),
}

/// What is to be done for a stream's part of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollStep {
    /// Read the chain's last marker, and tell [`Roll::last_is`].
    Look,
    /// Publish a batch on the condition that the last marker has this sequence (0: there is none), between [`Roll::sending`] and
    /// [`Roll::answered`].
    Send {
        /// Which one.
        batch: usize,
        /// The sequence.
        expects: u64,
    },
    /// Nothing more: [`Roll::end`].
    Done,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// All of it is stored; the sequence of its marker.
    Stored(u64),
    /// Nothing of it is stored, nor will be: the last marker is another one.
    Refused,
}

impl From<Option<StoredMarker>> for Link {
    fn from(found: Option<StoredMarker>) -> Self {
        found.map_or_else(Self::default, |found| Self { sequence: found.sequence, marker: found.marker })
    }
}

impl Roll {
    /// The parts of a commit that was just made. Nothing of it can be out, so the first thing is to publish.
    pub fn of(committed: &Arc<Committed>) -> Vec<Self> {
        Self::parts(committed, false, |part| State::Next { batch: 0, expects: part.after.sequence })
    }

    /// The parts of the last commit of an earlier process: some of it may be out, or all.
    pub fn resumed(committed: &Arc<Committed>) -> Vec<Self> {
        Self::parts(committed, false, |_| State::Unknown)
    }

    /// The parts of a commit that others followed: all of it is out.
    pub fn settled(committed: &Arc<Committed>) -> Vec<Self> {
        Self::parts(committed, true, |_| State::Unknown)
    }

    fn parts(committed: &Arc<Committed>, settled: bool, state: impl Fn(&StreamPart) -> State) -> Vec<Self> {
        let parts = committed.manifest().outbox.iter().flat_map(|outbox| &outbox.streams).enumerate();
        let roll = |(at, part)| Self { committed: Arc::clone(committed), part: at, settled, state: state(part) };
        parts.map(roll).collect()
    }

    /// The part of the outbox.
    pub fn part(&self) -> Option<&StreamPart> {
        self.committed.manifest().outbox.as_ref()?.streams.get(self.part)
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        self.part().map_or("", |part| &part.stream)
    }

    /// The messages of a batch.
    ///
    /// # Errors
    /// `Internal` if they are not at hand.
    pub(super) fn batch(&self, batch: usize) -> Result<Vec<OutboundMessage>> {
        let messages = self.committed.messages().get(self.range(batch)).filter(|messages| !messages.is_empty());
        let missing = || Error::internal(format!("batch {batch} for stream `{}` is not at hand", self.stream()));
        messages.map(<[OutboundMessage]>::to_vec).ok_or_else(missing)
    }

    /// Where the messages of a batch stand among those of the outbox.
    fn range(&self, batch: usize) -> std::ops::Range<usize> {
        let streams =
            self.committed.manifest().outbox.as_ref().map(|outbox| outbox.streams.as_slice()).unwrap_or_default();
        let before: usize = streams.iter().take(self.part).map(StreamPart::messages).sum();
        let batches = self.part().map(|part| part.batches.as_slice()).unwrap_or_default();
        let start = before + batches.iter().take(batch).sum::<usize>();
        start..start + batches.get(batch).copied().unwrap_or_default()
    }

    /// The marker that ends a batch.
    pub fn marker(&self, batch: usize) -> Marker {
        let manifest = self.committed.manifest();
        Marker { log: manifest.log.clone(), manifest: manifest.number, batch, batches: self.batches() }
    }

    /// What is to be done.
    pub fn next(&self) -> RollStep {
        match self.state {
            State::Unknown => RollStep::Look,
            State::Next { batch, expects } => RollStep::Send { batch, expects },
            State::Done(_) => RollStep::Done,
        }
    }

    /// A batch is on its way: until [`Roll::answered`] it is not known what became of it.
    pub fn sending(&mut self) {
        self.state = State::Unknown;
    }

    /// What became of the batch that was on its way.
    pub fn answered(&mut self, batch: usize, sent: Sent) {
        self.state = match sent {
            Sent::Stored(sequence) => self.behind(batch, sequence),
            Sent::Refused => State::Unknown,
        };
    }

    /// The chain's last marker.
    ///
    /// # Errors
    /// `Fenced` where somebody went on with the chain; `Corrupt` where the stream has lost its end, or is another one.
    pub fn last_is(&mut self, found: Option<StoredMarker>) -> Result<()> {
        let found = Link::from(found);
        let after = self.part().map(|part| part.after.clone()).unwrap_or_default();
        let own = found
            .marker
            .as_ref()
            .filter(|marker| self.marker(marker.batch) == **marker && marker.batch < self.batches());
        self.state = match own {
            Some(marker) if found.sequence > after.sequence => self.behind(marker.batch, found.sequence),
            _ if found == after => State::Next { batch: 0, expects: after.sequence },
            _ => {
                return Err(broken(
                    self.stream(),
                    &after,
                    self.committed.manifest().number,
                    &self.committed.manifest().log,
                    &found,
                ));
            }
        };
        if self.settled && !matches!(self.state, State::Done(_)) {
            return Err(lost_end(self.stream(), self.committed.manifest().number, &found));
        }
        Ok(())
    }

    /// The end of the chain behind it; none as long as something is to be done.
    pub fn end(&self) -> Option<Link> {
        match self.state {
            State::Done(sequence) => {
                Some(Link { sequence, marker: Some(self.marker(self.batches().saturating_sub(1))) })
            }
            State::Unknown | State::Next { .. } => None,
        }
    }

    /// Where the chain is once that batch is stored there.
    fn behind(&self, batch: usize, sequence: u64) -> State {
        match batch + 1 {
            next if next < self.batches() => State::Next { batch: next, expects: sequence },
            _ => State::Done(sequence),
        }
    }

    fn batches(&self) -> usize {
        self.part().map_or(0, |part| part.batches.len())
    }
}

/// That the end of a chain on which nothing was published since is still the one that it was.
///
/// # Errors
/// As [`Roll::last_is`].
pub fn check_end(stream: &str, log: &str, manifest: u64, known: &Link, found: Option<StoredMarker>) -> Result<()> {
    let found = Link::from(found);
    if found == *known { Ok(()) } else { Err(broken(stream, known, manifest, log, &found)) }
}

/// Why a marker can't be the last one for who has committed `manifest` and knows of `after`.
fn broken(stream: &str, after: &Link, manifest: u64, log: &str, found: &Link) -> Error {
    let newer = match &found.marker {
        Some(marker) if marker.log == log => marker.manifest > manifest,
        _ => true,
    };
    if found.sequence > after.sequence && newer {
        let by = match &found.marker {
            Some(marker) if marker.log == log => format!("manifest {} of this pipeline's log", marker.manifest),
            Some(marker) => format!("the log `{}`, which is another home's", marker.log),
            None => "something that is not Milepost, or a newer version of it".to_owned(),
        };
        let doing = format!(
            "another writer publishes to stream `{stream}`: its last marker (sequence {}) is of {by}; stop the other one, or begin \
             anew with another `--home`",
            found.sequence
        );
        return Error::new(ErrorKind::Fenced, doing);
    }
    lost_end(stream, manifest, found)
}

fn lost_end(stream: &str, manifest: u64, found: &Link) -> Error {
    let what = if found.sequence == 0 {
        "it has no marker at all".to_owned()
    } else {
        format!("its last marker is at {}", found.sequence)
    };
    let doing = format!(
        "stream `{stream}` lacks messages that were published to it up to manifest {manifest} ({what}): it was created anew, restored \
         to an older copy, or lost its end; begin anew with another `--home`, which publishes what the stream lacks"
    );
    Error::new(ErrorKind::Corrupt, doing)
}

/// The key to acknowledgement: a commit of which all is out.
#[derive(Debug, Clone)]
pub struct AckPermit {
    committed: Arc<Committed>,
}

impl AckPermit {
    /// The permit, if `rolls` are all parts of the commit, and each is at its end.
    pub fn new(committed: &Arc<Committed>, rolls: &[Roll]) -> Option<Self> {
        let parts = committed.manifest().outbox.as_ref().map_or(0, |outbox| outbox.streams.len());
        let is_out = |(at, roll): (usize, &Roll)| {
            Arc::ptr_eq(&roll.committed, committed) && roll.part == at && roll.end().is_some()
        };
        let all = rolls.len() == parts && rolls.iter().enumerate().all(is_out);
        all.then(|| Self { committed: Arc::clone(committed) })
    }

    /// The first sequence of a source that the commit has not taken; none where it took nothing of it.
    pub fn end_of(&self, source: &str) -> Option<Sequence> {
        let Entry::Epoch(record) = &self.committed.manifest().entry else { return None };
        record.inputs.iter().filter(|range| range.source == source).map(|range| range.range.end).max()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::checkpoint::manifest::{Manifest, Writer};
    use crate::checkpoint::outbox::{Messages, Outbox};

    fn marker(log: &str, manifest: u64, batch: usize) -> Option<Marker> {
        Some(Marker { log: log.to_owned(), manifest, batch, batches: 2 })
    }

    /// A commit of two batches, of two messages and one, behind the marker at 10.
    fn committed() -> Arc<Committed> {
        let message = |body: &str| OutboundMessage {
            subject: "s".to_owned(),
            content_type: String::new(),
            body: body.to_owned(),
        };
        let after = Link { sequence: 10, marker: marker("own", 6, 1) };
        let outbox = Outbox {
            sha256: String::new(),
            streams: vec![StreamPart { stream: "S".to_owned(), after, batches: vec![2, 1] }],
            messages: Messages::Published,
        };
        let writer = Writer { nonce: String::new(), host: String::new(), process: 0, started_at_us: 0 };
        let entry = Entry::Claim { fingerprints: BTreeMap::new() };
        let manifest = Manifest { number: 7, log: "own".to_owned(), writer, entry, outbox: Some(outbox) };
        Arc::new(Committed::found(&manifest, [message("a"), message("b"), message("c")].into(), Duration::ZERO))
    }

    fn roll() -> Roll {
        Roll::of(&committed()).remove(0)
    }

    fn found(sequence: u64, marker: Option<Marker>) -> Option<StoredMarker> {
        (sequence > 0).then_some(StoredMarker { sequence, marker })
    }

    #[test]
    fn a_part_goes_out_batch_by_batch_and_is_the_key_to_acknowledgement() {
        let committed = committed();
        let mut rolls = Roll::of(&committed);
        assert!(AckPermit::new(&committed, &rolls).is_none(), "nothing is out");
        let roll = &mut rolls[0];
        assert_eq!(roll.next(), RollStep::Send { batch: 0, expects: 10 });
        assert_eq!(roll.batch(0).unwrap().len(), 2);
        roll.sending();
        assert_eq!(roll.next(), RollStep::Look, "whatever happens to the request");
        roll.answered(0, Sent::Stored(13));
        assert_eq!(roll.next(), RollStep::Send { batch: 1, expects: 13 });
        assert_eq!(roll.batch(1).unwrap()[0].body, "c");
        roll.sending();
        roll.answered(1, Sent::Stored(15));
        assert_eq!(roll.next(), RollStep::Done);
        assert_eq!(roll.end(), Some(Link { sequence: 15, marker: marker("own", 7, 1) }));
        assert!(AckPermit::new(&committed, &rolls).is_some());
        assert!(AckPermit::new(&super::tests::committed(), &rolls).is_none(), "of another commit");
    }

    #[test]
    fn the_last_marker_says_what_is_out() {
        // (the last marker, what is to be done, whether that may be of a commit that others followed)
        for (sequence, last, expected, settled) in [
            (10, marker("own", 6, 1), RollStep::Send { batch: 0, expects: 10 }, false),
            (13, marker("own", 7, 0), RollStep::Send { batch: 1, expects: 13 }, false),
            (15, marker("own", 7, 1), RollStep::Done, true),
        ] {
            let mut roll = roll();
            roll.last_is(found(sequence, last.clone())).unwrap();
            assert_eq!(roll.next(), expected, "{last:?}");
            let mut followed = Roll::settled(&committed()).remove(0);
            let said = followed.last_is(found(sequence, last.clone())).map_err(|error| error.kind());
            assert_eq!(said, if settled { Ok(()) } else { Err(ErrorKind::Corrupt) }, "{last:?}");
        }
    }

    #[test]
    fn a_marker_that_can_not_be_there_is_another_writers_or_a_stream_that_is_another_one() {
        for (sequence, last, expected) in [
            (20, marker("own", 8, 0), ErrorKind::Fenced),
            (20, marker("other", 3, 0), ErrorKind::Fenced),
            (20, None, ErrorKind::Fenced),
            (0, None, ErrorKind::Corrupt),
            (8, marker("own", 5, 1), ErrorKind::Corrupt),
            (10, marker("own", 5, 1), ErrorKind::Corrupt),
            (10, marker("other", 5, 1), ErrorKind::Corrupt),
            (12, marker("own", 5, 1), ErrorKind::Corrupt),
            (9, marker("own", 7, 1), ErrorKind::Corrupt),
        ] {
            let error = roll().last_is(found(sequence, last.clone())).unwrap_err();
            assert_eq!(error.kind(), expected, "{sequence} {last:?}: {error}");
            assert!(error.to_string().contains("another `--home`"), "says what to do: {error}");
        }
    }
}
