//! What was published per subject, and what follows from it.
//!
//! Law: the last message of a subject is the ledger's entry for it. A subject's messages are its revisions, numbered
//! from 1 without gaps; a revision is published on the condition that its predecessor is still the last, so that of
//! two writers one is refused. Publishing what the ledger already says is nothing.

use std::collections::HashMap;

/// The digest of a row: SHA-256 over its canonical bytes.
pub type Digest = [u8; 32];

/// What a message says about its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The row exists, with this digest.
    Present(Digest),
    /// The row is gone.
    Revoked,
}

/// One message of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// Its number, from 1.
    pub number: u64,
    /// What it says.
    pub content: Content,
}

/// What kind of message a change needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There was no row: the first revision, or the one after a revocation.
    Appeared,
    /// The row has another content.
    Changed,
    /// The row is gone.
    Revoked,
}

/// A message to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// What kind of message.
    pub change: Change,
    /// Its number and content.
    pub revision: Revision,
    /// The stream sequence that must be the subject's last; 0: the subject must have no message.
    pub expected_sequence: u64,
}

/// The last message of each subject.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    last: Revision,
    sequence: u64,
    /// Revisions that were sent without learning what became of them, the oldest first.
    in_doubt: Vec<Revision>,
}

/// What the last message of a subject in the stream means to a writer with this ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The ledger is right: what was sent was not stored (yet).
    Unchanged,
    /// What was in doubt is stored; the ledger says so now.
    Stored,
    /// Somebody else wrote it.
    Foreign,
    /// A message that the ledger has is gone from the stream.
    Lost,
}

impl Ledger {
    /// Whether no key has a revision.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What must be published for the subject to say `content`; none: nothing.
    pub fn decide(&self, subject: &str, content: Content) -> Option<Next> {
        let Some(entry) = self.entries.get(subject).filter(|entry| entry.sequence > 0) else {
            return match content {
                Content::Present(_) => Some(Next {
                    change: Change::Appeared,
                    revision: Revision { number: 1, content },
                    expected_sequence: 0,
                }),
                Content::Revoked => None,
            };
        };
        let change = match (entry.last.content, content) {
            (before, after) if before == after => return None,
            (Content::Revoked, _) => Change::Appeared,
            (_, Content::Present(_)) => Change::Changed,
            (_, Content::Revoked) => Change::Revoked,
        };
        Some(Next {
            change,
            revision: Revision { number: entry.last.number + 1, content },
            expected_sequence: entry.sequence,
        })
    }

    /// Notes that `revision` is the subject's last message, at this stream sequence.
    pub fn record(&mut self, subject: &str, revision: Revision, sequence: u64) {
        self.entries.insert(subject.to_owned(), Entry { last: revision, sequence, in_doubt: Vec::new() });
    }

    /// Notes that `revision` is about to be sent. Until [`Ledger::record`], its outcome is not known, and that of the
    /// `DOUBTS_MAX` before it isn't either.
    pub fn doubt(&mut self, subject: &str, revision: Revision) {
        let nothing =
            || Entry { last: Revision { number: 0, content: Content::Revoked }, sequence: 0, in_doubt: Vec::new() };
        let in_doubt = &mut self.entries.entry(subject.to_owned()).or_insert_with(nothing).in_doubt;
        if !in_doubt.contains(&revision) {
            if in_doubt.len() == DOUBTS_MAX {
                in_doubt.remove(0);
            }
            in_doubt.push(revision);
        }
    }

    /// Notes that what is in doubt will never be stored, where the last message is known to be the ledger's.
    pub fn dismiss(&mut self, subject: &str) {
        if let Some(entry) = self.entries.get_mut(subject) {
            entry.in_doubt.clear();
        }
    }

    /// Compares the subject's last message in the stream (its sequence, and its revision if we could have written it)
    /// with the ledger, and adopts it if it was in doubt.
    pub fn judge(&mut self, subject: &str, stored: Option<(u64, Option<Revision>)>) -> Verdict {
        let entry = self.entries.get(subject);
        let sequence = entry.map_or(0, |entry| entry.sequence);
        let was_sent = |revision: &Revision| entry.is_some_and(|entry| entry.in_doubt.contains(revision));
        match stored {
            None if sequence == 0 => Verdict::Unchanged,
            None => Verdict::Lost,
            Some((stored, _)) if stored == sequence => Verdict::Unchanged,
            Some((stored, Some(revision))) if was_sent(&revision) => {
                self.record(subject, revision, stored);
                Verdict::Stored
            }
            Some(_) => Verdict::Foreign,
        }
    }

    /// The subjects with a revision in doubt, sorted.
    pub fn doubted(&self) -> Vec<String> {
        self.subjects(|entry| !entry.in_doubt.is_empty())
    }

    /// The subjects whose row exists, sorted.
    pub fn present(&self) -> Vec<String> {
        self.subjects(|entry| matches!(entry.last.content, Content::Present(_)))
    }

    fn subjects(&self, select: impl Fn(&Entry) -> bool) -> Vec<String> {
        let selected = self.entries.iter().filter(|(_, entry)| select(entry));
        let mut subjects: Vec<String> = selected.map(|(subject, _)| subject.clone()).collect();
        subjects.sort_unstable();
        subjects
    }
}

/// Revisions in doubt that a subject remembers.
const DOUBTS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Content = Content::Present([1; 32]);
    const OTHER: Content = Content::Present([2; 32]);

    fn revision(number: u64, content: Content) -> Revision {
        Revision { number, content }
    }

    #[test]
    fn a_change_is_published_as_the_next_revision_and_a_repetition_is_nothing() {
        // (last message, wanted content, what is published: change, number, expected sequence)
        for (last, wanted, expected) in [
            (None, ROW, Some((Change::Appeared, 1, 0))),
            (None, Content::Revoked, None),
            (Some((revision(1, ROW), 10)), ROW, None),
            (Some((revision(1, ROW), 10)), OTHER, Some((Change::Changed, 2, 10))),
            (Some((revision(2, OTHER), 11)), Content::Revoked, Some((Change::Revoked, 3, 11))),
            (Some((revision(3, Content::Revoked), 12)), Content::Revoked, None),
            (Some((revision(3, Content::Revoked), 12)), ROW, Some((Change::Appeared, 4, 12))),
        ] {
            let mut ledger = Ledger::default();
            if let Some((last, sequence)) = last {
                ledger.record("s", last, sequence);
            }
            let found = ledger.decide("s", wanted);
            assert_eq!(
                found.map(|next| (next.change, next.revision.number, next.expected_sequence)),
                expected,
                "{last:?} {wanted:?}"
            );
            assert!(found.is_none_or(|next| next.revision.content == wanted));
        }
    }

    #[test]
    fn a_last_message_is_ours_if_it_is_known_or_in_doubt_and_foreign_otherwise() {
        let known = Some((revision(1, ROW), 10));
        let doubted = Some(revision(2, OTHER));
        // (last known message, revision in doubt, last stored message, verdict)
        for (last, doubt, stored, expected) in [
            (None, None, None, Verdict::Unchanged),
            (None, Some(revision(1, ROW)), None, Verdict::Unchanged),
            (None, Some(revision(1, ROW)), Some((10, Some(revision(1, ROW)))), Verdict::Stored),
            (None, Some(revision(1, ROW)), Some((10, Some(revision(1, OTHER)))), Verdict::Foreign),
            (known, doubted, Some((10, Some(revision(1, ROW)))), Verdict::Unchanged),
            (known, doubted, Some((11, doubted)), Verdict::Stored),
            (known, doubted, Some((11, Some(revision(2, Content::Revoked)))), Verdict::Foreign),
            (known, doubted, Some((11, Some(revision(3, OTHER)))), Verdict::Foreign),
            (known, doubted, Some((11, None)), Verdict::Foreign),
            (known, None, Some((11, doubted)), Verdict::Foreign),
            (known, doubted, None, Verdict::Lost),
        ] {
            let mut ledger = Ledger::default();
            if let Some((last, sequence)) = last {
                ledger.record("s", last, sequence);
            }
            if let Some(doubt) = doubt {
                ledger.doubt("s", doubt);
            }
            assert_eq!(ledger.judge("s", stored), expected, "{last:?} {doubt:?} {stored:?}");
        }
    }

    #[test]
    fn what_was_in_doubt_and_is_stored_is_the_ground_of_the_next_revision() {
        let mut ledger = Ledger::default();
        ledger.doubt("s", revision(1, ROW));
        ledger.doubt("s", revision(1, OTHER));
        assert_eq!(ledger.decide("s", OTHER).map(|next| next.revision.number), Some(1));
        assert_eq!(ledger.judge("s", None), Verdict::Unchanged);
        assert_eq!(ledger.judge("s", Some((7, Some(revision(1, ROW))))), Verdict::Stored);
        let next = ledger.decide("s", OTHER).unwrap();
        assert_eq!((next.change, next.revision.number, next.expected_sequence), (Change::Changed, 2, 7));
    }

    #[test]
    fn only_rows_that_exist_are_present() {
        let mut ledger = Ledger::default();
        ledger.record("b", revision(1, ROW), 1);
        ledger.record("a", revision(1, ROW), 2);
        ledger.record("c", revision(2, Content::Revoked), 3);
        ledger.doubt("d", revision(1, ROW));
        assert_eq!(ledger.present(), ["a", "b"]);
        assert_eq!(ledger.doubted(), ["d"]);
    }
}
