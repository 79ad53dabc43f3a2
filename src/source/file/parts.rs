//! The files of a source in the order in which they are read.
//!
//! The law: files that were read before come first, in the order in which they were, each at the sequence at which it began.
//! All others follow in the order of their names; those of a later listing behind those of an earlier one. So a file keeps its
//! place once a record of it was read, and what order the others have can't be seen in what was read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::listing::{Listed, State};
use crate::types::Sequence;

/// The files, and which of them is being read.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: Vec<Part>,
    /// The one that is read now or next.
    at: usize,
    /// Seen in the last listing for the first time.
    new: BTreeMap<String, State>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) listed: Listed,
    /// What its records were read from; none as long as none was.
    pub(super) identity: Option<Arc<str>>,
    /// The sequence of its first record; none before it is known.
    pub(super) first: Option<Sequence>,
}

/// Which files of a listing become parts of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// All of them.
    All,
    /// Those that are as they were in the listing before: what is still being written is not.
    Settled,
    /// None but those that are parts already.
    Known,
}

impl Parts {
    /// Files that were read before, in that order.
    pub(super) fn of_known(parts: Vec<Part>) -> Self {
        Self { parts, at: 0, new: BTreeMap::new() }
    }

    /// The file that is read now or next; none if there is no further one.
    pub(super) fn current(&self) -> Option<&Part> {
        self.parts.get(self.at)
    }

    /// Whether a file is to be read behind the current one.
    pub(super) fn has_next(&self) -> bool {
        self.at + 1 < self.parts.len()
    }

    /// Where the current file ends, if the one behind it was read before.
    pub(super) fn end_of_current(&self) -> Option<Sequence> {
        self.parts.get(self.at + 1)?.first
    }

    /// Those of which a record was read, or is being read.
    pub(super) fn read(&self) -> impl Iterator<Item = (&Part, &Arc<str>)> {
        self.parts.iter().filter_map(|part| part.identity.as_ref().map(|identity| (part, identity)))
    }

    /// The current file was opened as this, and its first record has this sequence.
    pub(super) fn opened(&mut self, identity: &Arc<str>, state: State, first: Sequence) {
        if let Some(part) = self.parts.get_mut(self.at) {
            part.identity = Some(Arc::clone(identity));
            part.listed.state = state;
            part.first.get_or_insert(first);
        }
    }

    /// The current file ends before this sequence; the next one is due. A file without records was never read.
    pub(super) fn ended(&mut self, next: Sequence) {
        if let Some(part) = self.parts.get_mut(self.at) {
            if part.first == Some(next) {
                part.identity = None;
            }
            self.at += 1;
        }
    }

    /// Goes to the file that holds a sequence, or would hold it next; returns how many of its records are before it. None
    /// where no file reaches so far, as far as is known.
    pub(super) fn seek(&mut self, next: Sequence) -> Option<u64> {
        if let Some(part) = self.parts.first_mut() {
            part.first.get_or_insert(1);
        }
        let found = self.parts.iter().rposition(|part| part.first.is_some_and(|first| first <= next));
        match found.and_then(|at| self.parts.get(at).and_then(|part| part.first).map(|first| (at, first))) {
            Some((at, first)) => {
                self.at = at;
                Some(next - first)
            }
            None => {
                self.at = 0;
                (next == 1).then_some(0)
            }
        }
    }

    /// Takes up a listing in which everything that was read is as it was.
    pub(super) fn update(&mut self, listing: Vec<Listed>, admission: Admission) {
        let mut listing: BTreeMap<String, Listed> =
            listing.into_iter().map(|listed| (listed.name.clone(), listed)).collect();
        let mut at = self.at;
        let mut position = 0;
        self.parts.retain_mut(|part| {
            let was_before = position < self.at;
            position += 1;
            let now = listing.remove(&part.listed.name);
            let empty_before = was_before && part.identity.is_none();
            let kept = match now {
                None => part.identity.is_some(),
                Some(now) if empty_before && now.state != part.listed.state => {
                    listing.insert(now.name.clone(), now);
                    false
                }
                Some(now) => {
                    part.listed = now;
                    true
                }
            };
            at -= usize::from(was_before && !kept);
            kept
        });
        self.at = at;
        let seen_before = std::mem::take(&mut self.new);
        for (name, listed) in listing {
            let settled = seen_before.get(&name) == Some(&listed.state);
            match admission {
                Admission::All => self.admit(listed),
                Admission::Settled if settled => self.admit(listed),
                Admission::Settled => drop(self.new.insert(name, listed.state)),
                Admission::Known => {}
            }
        }
    }

    fn admit(&mut self, listed: Listed) {
        self.parts.push(Part { listed, identity: None, first: None });
    }
}

#[cfg(test)]
mod tests {
    use super::super::listing::Mark;
    use super::*;
    use crate::definition::pipeline::FileForm;

    fn listing(files: &[(&str, u64)]) -> Vec<Listed> {
        let listed = |(name, size): &(&str, u64)| Listed {
            name: (*name).to_owned(),
            form: FileForm::of("x.csv").expect("a form"),
            state: State { size: *size, mark: Mark::Written(None) },
        };
        files.iter().map(listed).collect()
    }

    fn names(parts: &Parts) -> Vec<&str> {
        parts.parts.iter().map(|part| &*part.listed.name).collect()
    }

    /// Reads the current file from `first` to `next`.
    fn read(parts: &mut Parts, first: Sequence, next: Sequence) {
        let listed = parts.current().expect("a file").listed.clone();
        parts.opened(&Arc::from(format!("{} {}", listed.name, listed.state.size)), listed.state, first);
        parts.ended(next);
    }

    #[test]
    fn later_files_come_behind_those_that_were_there_before() {
        let mut parts = Parts::default();
        parts.update(listing(&[("b", 1), ("c", 1)]), Admission::All);
        read(&mut parts, 1, 5);
        parts.update(listing(&[("a", 1), ("b", 1), ("bb", 1), ("c", 1)]), Admission::Settled);
        assert_eq!(names(&parts), ["b", "c"]);
        parts.update(listing(&[("a", 2), ("b", 1), ("bb", 1), ("c", 1)]), Admission::Settled);
        assert_eq!(names(&parts), ["b", "c", "bb"], "`a` is still being written");
        parts.update(listing(&[("a", 2), ("b", 1), ("bb", 1), ("c", 1)]), Admission::Settled);
        assert_eq!(names(&parts), ["b", "c", "bb", "a"]);
        assert_eq!(parts.current().map(|part| &*part.listed.name), Some("c"));
        parts.update(listing(&[("b", 1), ("d", 1)]), Admission::Known);
        assert_eq!(names(&parts), ["b"], "what was not read is not missed");
        assert_eq!(parts.current(), None);
    }

    #[test]
    fn sequence_is_found_in_the_file_that_holds_it() {
        let mut parts = Parts::default();
        parts.update(listing(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]), Admission::All);
        assert_eq!((Parts::default().seek(1), Parts::default().seek(2)), (Some(0), None));
        assert_eq!((parts.seek(3), parts.seek(1)), (Some(2), Some(0)), "where the first file ends is not known yet");
        read(&mut parts, 1, 5);
        read(&mut parts, 5, 5);
        read(&mut parts, 5, 7);
        for (next, skipped, name) in [(1, 0, "a"), (4, 3, "a"), (5, 0, "c"), (6, 1, "c"), (7, 2, "c"), (9, 4, "c")] {
            assert_eq!(parts.seek(next), Some(skipped), "{next}");
            assert_eq!(parts.current().map(|part| &*part.listed.name), Some(name), "{next}");
        }
    }

    #[test]
    fn file_without_records_may_get_some() {
        let mut parts = Parts::default();
        parts.update(listing(&[("a", 0), ("b", 1)]), Admission::All);
        read(&mut parts, 1, 1);
        read(&mut parts, 1, 3);
        assert_eq!(parts.read().map(|(part, _)| &*part.listed.name).collect::<Vec<_>>(), ["b"]);
        parts.update(listing(&[("a", 0), ("b", 1)]), Admission::Settled);
        assert_eq!((names(&parts), parts.current()), (vec!["a", "b"], None));
        parts.update(listing(&[("a", 9), ("b", 1)]), Admission::Settled);
        assert_eq!((names(&parts), parts.current()), (vec!["b"], None));
        parts.update(listing(&[("a", 9), ("b", 1)]), Admission::Settled);
        assert_eq!(names(&parts), ["b", "a"]);
        assert_eq!(parts.current().map(|part| &*part.listed.name), Some("a"));
    }
}
