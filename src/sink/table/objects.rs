//! Where a table lies in an object store, and which of its files may go. Decisions only; nothing here talks to a store.
//!
//! A file's name holds the number of its version and a writer's own digits, so it is used once. A file that leaves the
//! table stands among `retired` in every pointer from then on, until it goes: so nobody has to remember.

use std::collections::BTreeSet;

use super::layout::KEPT_FOR;
use super::manifest::{Manifest, Retired, TableFile};
use crate::types::Micros;

/// The folder of all files, below the table's URL. Readers that list folders pass over names that begin with `_`: the
/// files of a version are those that the pointer names, and no others.
pub(super) const FILES: &str = "_files";

/// The name of a new file, below the table's URL. `index` is its place in its folder.
pub(super) fn object_name(folder: &str, number: u64, index: usize, writer: &str) -> String {
    let part = format!("part-{number:08}-{index:05}-{writer}.parquet");
    if folder.is_empty() { format!("{FILES}/{part}") } else { format!("{FILES}/{folder}/{part}") }
}

/// The number of the version that a file was written for; none if it is no file of a table.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let part = name.rsplit('/').next()?.strip_prefix("part-")?;
    part.split_once('-')?.0.parse().ok()
}

/// What the next pointer says of files that left: those of `before` that `files` lack, as of `now`, and those that left
/// before and are not yet due. The second part are those that are: at least [`KEPT_FOR`] has passed since they left.
pub(super) fn retire(before: Option<&Manifest>, files: &[TableFile], now: Micros) -> (Vec<Retired>, Vec<String>) {
    let Some(before) = before else { return (Vec::new(), Vec::new()) };
    let named: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let mut retired = before.retired.clone();
    let due = take_due(&mut retired, now);
    let left = before.files.iter().map(|file| &file.name).filter(|name| !named.contains(name.as_str()));
    let names: Vec<String> = left.cloned().collect();
    if !names.is_empty() {
        retired.push(Retired { at_us: now, names });
    }
    (retired, due)
}

/// Takes out the names of the files that left at least [`KEPT_FOR`] ago.
pub(super) fn take_due(retired: &mut Vec<Retired>, now: Micros) -> Vec<String> {
    let due = retired.extract_if(.., |group| now.saturating_sub(group.at_us) >= KEPT_FOR);
    due.flat_map(|group| group.names).collect()
}

/// Every file that a pointer names, and that must stay for that.
pub(super) fn named(pointer: &Manifest) -> BTreeSet<&str> {
    let retired = pointer.retired.iter().flat_map(|group| &group.names);
    pointer.files.iter().map(|file| &file.name).chain(retired).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::table::manifest::{FORMAT, content, identity};

    const MINUTE: Micros = 60_000_000;

    fn file(name: &str) -> TableFile {
        let text = |text: &str| text.to_owned();
        TableFile { name: text(name), partition: None, rows: 1, size_bytes: 1, sha256: text(""), content: text(name) }
    }

    fn pointer(files: &[&str], retired: Vec<Retired>) -> Manifest {
        let files: Vec<TableFile> = files.iter().map(|name| file(name)).collect();
        Manifest {
            format: FORMAT,
            version: 1,
            pipeline: String::new(),
            job: String::new(),
            epoch: 1,
            clock_us: None,
            watermark_us: None,
            published_at_us: 0,
            directory: None,
            writer: None,
            key: Vec::new(),
            partition_by: Vec::new(),
            schema: Vec::new(),
            rows: files.len() as u64,
            content: content(&identity("", "", &[], &[], &[]).expect("identity"), &files),
            files,
            retired,
        }
    }

    fn names(retired: &[Retired]) -> Vec<(Micros, String)> {
        retired.iter().map(|group| (group.at_us / MINUTE, group.names.join(" "))).collect()
    }

    #[test]
    fn names_hold_number_and_writer_and_are_read_back() {
        let name = object_name("day=2024-03-18", 7, 2, "0123456789abcdef");
        assert_eq!(name, "_files/day=2024-03-18/part-00000007-00002-0123456789abcdef.parquet");
        assert_eq!(number_of(&name), Some(7));
        assert_eq!(number_of(&object_name("", 123_456_789, 0, "w")), Some(123_456_789));
        for foreign in ["_current.json", "_files/part-x", "_files/part-x-1", "_files/day=1/x.parquet", ""] {
            assert_eq!(number_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_file_goes_ten_minutes_after_it_left_and_stays_named_until_then() {
        let first = pointer(&["a", "b"], Vec::new());
        let (retired, due) = retire(Some(&first), &[file("b"), file("c")], 5 * MINUTE);
        assert_eq!((names(&retired), due), (vec![(5, "a".to_owned())], vec![]));

        let second = pointer(&["b", "c"], retired);
        assert_eq!(named(&second), BTreeSet::from(["a", "b", "c"]));
        let (retired, due) = retire(Some(&second), &[file("b"), file("c")], 15 * MINUTE - 1);
        assert_eq!((names(&retired), due), (vec![(5, "a".to_owned())], vec![]));
        let (retired, due) = retire(Some(&second), &[file("d")], 15 * MINUTE);
        assert_eq!((names(&retired), due), (vec![(15, "b c".to_owned())], vec!["a".to_owned()]));
        // A clock that went back keeps everything.
        assert_eq!(retire(Some(&second), &[file("b"), file("c")], -100 * MINUTE).1, Vec::<String>::new());
        assert_eq!(retire(None, &[file("a")], 0), (vec![], vec![]));
    }
}
