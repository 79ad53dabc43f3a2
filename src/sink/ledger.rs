//! What was published per subject, and what follows from it.
//!
//! Law: the last message of a subject is the ledger's entry for it. A subject's messages are its revisions, numbered
//! from 1 without gaps. Publishing what the ledger already says is nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The digest of a row: SHA-256 over its canonical bytes.
pub type Digest = [u8; 32];

/// What a message says about its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Option<String>", try_from = "Option<String>")]
pub enum Content {
    /// The row exists, with this digest.
    Present(Digest),
    /// The row is gone.
    Revoked,
}

/// One message of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
}

/// The last revision of each subject.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ledger {
    entries: BTreeMap<String, Revision>,
}

impl Ledger {
    /// Whether no key has a revision.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What must be published for the subject to say `content`; none: nothing.
    pub fn decide(&self, subject: &str, content: Content) -> Option<Next> {
        let last = self.entries.get(subject);
        let change = match (last.map_or(Content::Revoked, |last| last.content), content) {
            (before, after) if before == after => return None,
            (Content::Revoked, _) => Change::Appeared,
            (_, Content::Present(_)) => Change::Changed,
            (_, Content::Revoked) => Change::Revoked,
        };
        let number = last.map_or(0, |last| last.number) + 1;
        Some(Next { change, revision: Revision { number, content } })
    }

    /// Notes that `revision` is the subject's last one.
    pub fn record(&mut self, subject: &str, revision: Revision) {
        match self.entries.get_mut(subject) {
            Some(last) => *last = revision,
            None => drop(self.entries.insert(subject.to_owned(), revision)),
        }
    }

    /// The subjects whose row exists, sorted.
    pub fn present(&self) -> Vec<String> {
        let present = self.entries.iter().filter(|(_, last)| matches!(last.content, Content::Present(_)));
        present.map(|(subject, _)| subject.clone()).collect()
    }
}

impl From<Content> for Option<String> {
    fn from(content: Content) -> Self {
        match content {
            Content::Present(digest) => Some(digest.iter().map(|byte| format!("{byte:02x}")).collect()),
            Content::Revoked => None,
        }
    }
}

impl TryFrom<Option<String>> for Content {
    type Error = String;

    fn try_from(text: Option<String>) -> Result<Self, String> {
        let Some(text) = text else { return Ok(Self::Revoked) };
        let wrong = || format!("`{text}` is no digest");
        let mut digest = Digest::default();
        if text.len() != 2 * digest.len() || !text.is_ascii() {
            return Err(wrong());
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self::Present(digest))
    }
}

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
        // (last message, wanted content, what is published: change, number)
        for (last, wanted, expected) in [
            (None, ROW, Some((Change::Appeared, 1))),
            (None, Content::Revoked, None),
            (Some(revision(1, ROW)), ROW, None),
            (Some(revision(1, ROW)), OTHER, Some((Change::Changed, 2))),
            (Some(revision(2, OTHER)), Content::Revoked, Some((Change::Revoked, 3))),
            (Some(revision(3, Content::Revoked)), Content::Revoked, None),
            (Some(revision(3, Content::Revoked)), ROW, Some((Change::Appeared, 4))),
        ] {
            let mut ledger = Ledger::default();
            last.into_iter().for_each(|last| ledger.record("s", last));
            let found = ledger.decide("s", wanted);
            assert_eq!(found.map(|next| (next.change, next.revision.number)), expected, "{last:?} {wanted:?}");
            assert!(found.is_none_or(|next| next.revision.content == wanted));
        }
    }

    #[test]
    fn only_rows_that_exist_are_present() {
        let mut ledger = Ledger::default();
        ledger.record("b", revision(1, ROW));
        ledger.record("a", revision(1, ROW));
        ledger.record("c", revision(2, Content::Revoked));
        assert_eq!(ledger.present(), ["a", "b"]);
    }

    #[test]
    fn a_ledger_comes_back_from_its_json_and_a_spoilt_digest_does_not() {
        let mut ledger = Ledger::default();
        ledger.record("a", revision(1, Content::Present(std::array::from_fn(|at| u8::try_from(at * 7).unwrap()))));
        ledger.record("b", revision(2, Content::Revoked));
        let text = serde_json::to_string(&ledger).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
        for spoilt in ["0", "zz", "€"] {
            assert!(serde_json::from_str::<Ledger>(&text.replacen("0007", spoilt, 1)).is_err(), "{spoilt}");
        }
    }
}
