//! What is left to be done of an earlier process's publications: read from the log, and from nothing else.
//!
//! A commit follows another one only when all of that is out. So of the last commit something may be missing on its streams, and of
//! those before it nothing: there the last marker must be the one that the log says.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::chain::{Link, Roll};
use super::commit::Committed;
use super::history::History;
use super::manifest::{AdoptedSink, Entry, Manifest};

/// Of one stream what is to be done before anything new is published to it.
#[derive(Debug, Clone)]
pub enum Owed {
    /// Roll a commit forward, or see that it is out.
    Roll(Roll),
    /// See that its chain ends as it did when it was adopted: nothing was published since.
    End {
        /// The stream.
        stream: String,
        /// The log's own name.
        log: String,
        /// The manifest that adopted it.
        manifest: u64,
        /// Where its chain ended.
        end: Link,
    },
}

impl Owed {
    /// The stream.
    pub fn stream(&self) -> &str {
        match self {
            Self::Roll(roll) => roll.stream(),
            Self::End { stream, .. } => stream,
        }
    }
}

impl History {
    /// The sinks that are published to, by the last word of the log; none before the first one.
    pub fn adopted(&self) -> &[AdoptedSink] {
        match self.adoption().map(|manifest| &manifest.entry) {
            Some(Entry::Adopt { sinks, .. }) => sinks,
            _ => &[],
        }
    }

    /// Whether the log says which sinks are published to, if only that none is.
    pub fn is_publishing(&self) -> bool {
        self.adoption().is_some()
    }

    /// The last manifest that says which sinks are published to, if it is of the current generation.
    fn adoption(&self) -> Option<&Manifest> {
        self.since_generation().iter().rfind(|manifest| matches!(manifest.entry, Entry::Adopt { .. }))
    }

    /// The newest manifest that may have messages.
    pub(super) fn newest(&self) -> Option<&Manifest> {
        self.manifests().iter().rfind(|manifest| manifest.entry.happened())
    }

    /// What is owed to each stream that is published to. `commit` makes the permit of a manifest that is in the log.
    pub(super) fn owed(&self, commit: &dyn Fn(&Manifest) -> Arc<Committed>) -> Vec<Owed> {
        let Some(adoption) = self.adoption() else { return Vec::new() };
        let Entry::Adopt { ends, .. } = &adoption.entry else { return Vec::new() };
        let newest = self.newest().map_or(0, |manifest| manifest.number);
        let mut owed: Vec<Owed> = Vec::new();
        let mut open: BTreeSet<&str> = ends.keys().map(String::as_str).collect();
        for manifest in self.manifests().iter().rev().take_while(|manifest| manifest.number >= adoption.number) {
            let parts = manifest.outbox.iter().flat_map(|outbox| &outbox.streams);
            let last: Vec<bool> = parts.map(|part| open.remove(part.stream.as_str())).collect();
            if last.contains(&true) {
                let committed = commit(manifest);
                let is_newest = manifest.number == newest;
                let rolls = if is_newest { Roll::resumed(&committed) } else { Roll::settled(&committed) };
                owed.extend(rolls.into_iter().zip(last).filter(|(_, last)| *last).map(|(roll, _)| Owed::Roll(roll)));
            }
            if open.is_empty() {
                break;
            }
        }
        let untouched = ends.iter().filter(|(stream, _)| open.contains(stream.as_str()));
        owed.extend(untouched.map(|(stream, end)| Owed::End {
            stream: stream.clone(),
            log: adoption.log.clone(),
            manifest: adoption.number,
            end: end.clone(),
        }));
        owed
    }
}
