//! Where a table lies: names, links, and which versions may be collected. Decisions only; nothing here touches a disk.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::types::Micros;

/// How long a version stays after another one took its place, in microseconds.
pub const KEPT_FOR: Micros = 10 * 60 * 1_000_000;

/// The directory under `--home` in which all versions of all tables lie.
pub(super) const VERSIONS: &str = ".versions";

/// The manifest in every version directory.
pub(super) const MANIFEST: &str = "_current.json";

/// What an entry of a table's directory of versions is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// A whole version, `<number>-<16 hexadecimal digits>`.
    Version,
    /// A directory that is being written or taken away, `<number>-partial`.
    Partial,
    /// A link on its way to the table's path, `<number>-link`.
    Link,
}

/// An entry of a table's directory of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The version's number.
    pub(super) number: u64,
    /// What it is.
    pub(super) kind: EntryKind,
    /// Its name.
    pub(super) name: String,
}

impl Entry {
    /// Reads a name; none if it is not one of ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (number, rest) = name.split_once('-')?;
        let kind = match rest {
            "partial" => EntryKind::Partial,
            "link" => EntryKind::Link,
            digest if digest.len() == 16 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => {
                EntryKind::Version
            }
            _ => return None,
        };
        let entry = Self { number: number.parse().ok()?, kind, name: name.to_owned() };
        (self::number(entry.number) == number).then_some(entry)
    }
}

/// The name of a version: its number and the first 16 digits of its content's digest.
pub(super) fn version_name(number: u64, content: &str) -> String {
    format!("{}-{}", self::number(number), content.get(..16).unwrap_or(content))
}

/// The name of the directory in which a version is written.
pub(super) fn partial_name(number: u64) -> String {
    format!("{}-partial", self::number(number))
}

/// The name of the link that is renamed over the table's path.
pub(super) fn link_name(number: u64) -> String {
    format!("{}-link", self::number(number))
}

/// The name of a file: its folder, its place there, the version that it is first in and the first 16 digits of its rows'
/// digest. A name that left the table does not come back, so whoever finds all files that one listing named has found
/// files of one version.
pub(super) fn file_name(folder: &str, index: usize, version: u64, content: &str) -> String {
    let digest = content.get(..16).unwrap_or(content);
    format!("{}{}-{digest}.parquet", place(folder, index), number(version))
}

/// Whether a file of that name has that place in that folder.
pub(super) fn has_place(name: &str, folder: &str, index: usize) -> bool {
    name.strip_prefix(&place(folder, index)).is_some_and(|rest| !rest.contains('/'))
}

fn place(folder: &str, index: usize) -> String {
    let slash = if folder.is_empty() { "" } else { "/" };
    format!("{folder}{slash}part-{index:05}-")
}

fn number(number: u64) -> String {
    format!("{number:08}")
}

/// A table's path, relative to `--home`, in components that are plain names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TablePath(Vec<String>);

impl TablePath {
    /// Checks a path as it stands in a pipeline file.
    ///
    /// # Errors
    ///
    /// Kind `Definition`: an empty or absolute path, `.` or `..`, a name that begins with a dot or is not UTF-8.
    pub(super) fn new(path: &Path) -> Result<Self> {
        let wrong = |why: &str| Error::new(ErrorKind::Definition, format!("table path `{}` {why}", path.display()));
        let mut names = Vec::new();
        for component in path.components() {
            let Component::Normal(name) = component else { return Err(wrong("must be relative, without `.` or `..`")) };
            let name = name.to_str().ok_or_else(|| wrong("must be UTF-8"))?;
            if name.starts_with('.') {
                return Err(wrong("must not have a name that begins with a dot"));
            }
            names.push(name.to_owned());
        }
        if names.is_empty() {
            return Err(wrong("must not be empty"));
        }
        Ok(Self(names))
    }

    /// Where readers look: the link.
    pub(super) fn link(&self, home: &Path) -> PathBuf {
        home.join(self.relative())
    }

    /// The directories between `home` and the link, the outermost first.
    pub(super) fn parents(&self, home: &Path) -> Vec<PathBuf> {
        (1..self.0.len()).map(|depth| home.join(self.0.iter().take(depth).collect::<PathBuf>())).collect()
    }

    /// Where the versions lie.
    pub(super) fn versions(&self, home: &Path) -> PathBuf {
        home.join(VERSIONS).join(self.relative())
    }

    /// What the link says when `version` is current: relative, so that `home` can be moved.
    pub(super) fn target(&self, version: &str) -> PathBuf {
        let up = (1..self.0.len()).map(|_| "..").collect::<PathBuf>();
        up.join(VERSIONS).join(self.relative()).join(version)
    }

    /// The version that a link names; none if the link is not one of this table's.
    pub(super) fn version_of(&self, target: &Path) -> Option<Entry> {
        let entry = Entry::parse(target.file_name()?.to_str()?)?;
        (entry.kind == EntryKind::Version && self.target(&entry.name) == target).then_some(entry)
    }

    fn relative(&self) -> PathBuf {
        self.0.iter().collect()
    }
}

/// The number of the next version: above everything that is there, leftovers too.
pub(super) fn next_number(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.number).max().unwrap_or(0) + 1
}

/// What may be taken away when version `current` is current: leftovers with a number up to it, at once; versions below
/// it, [`KEPT_FOR`] after the version that followed was published. `published` says when a version was; if it does not
/// know, the version that is current decides.
///
/// Numbers above `current` stay: they are what keeps a number from being used again.
pub(super) fn collectable(
    entries: &[Entry],
    current: u64,
    published: impl Fn(u64) -> Option<Micros>,
    now: Micros,
) -> Vec<&Entry> {
    let mut versions: Vec<u64> =
        entries.iter().filter(|entry| entry.kind == EntryKind::Version).map(|entry| entry.number).collect();
    versions.sort_unstable();
    let replaced = |number: u64| {
        let next = versions.iter().copied().find(|other| *other > number)?;
        published(next.min(current)).or_else(|| published(current))
    };
    let is_old = |number: u64| replaced(number).is_some_and(|at| now.saturating_sub(at) >= KEPT_FOR);
    let may_go = |entry: &&Entry| match entry.kind {
        EntryKind::Version => entry.number < current && is_old(entry.number),
        EntryKind::Partial | EntryKind::Link => entry.number <= current,
    };
    entries.iter().filter(may_go).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_must_be_relative_and_plain() {
        for path in ["kpi/dispatch_sla", "a", "a/b/c"] {
            assert!(TablePath::new(Path::new(path)).is_ok(), "{path}");
        }
        for path in ["", "/a", "../a", "a/../b", "./a", ".versions/a", "a/.b"] {
            let error = TablePath::new(Path::new(path)).expect_err(path);
            assert_eq!(error.kind(), ErrorKind::Definition);
        }
    }

    #[test]
    fn a_link_names_its_version_relative_to_itself() {
        let path = TablePath::new(Path::new("kpi/dispatch_sla")).expect("a path");
        let version = version_name(7, "0123456789abcdef0000");
        assert_eq!(version, "00000007-0123456789abcdef");
        let target = path.target(&version);
        assert_eq!(target, Path::new("../.versions/kpi/dispatch_sla/00000007-0123456789abcdef"));
        assert_eq!(path.version_of(&target).map(|entry| entry.number), Some(7));
        for foreign in ["../elsewhere", "../.versions/kpi/other/00000007-0123456789abcdef", "/tmp", ""] {
            assert_eq!(path.version_of(Path::new(foreign)), None, "{foreign}");
        }
        let top = TablePath::new(Path::new("t")).expect("a path");
        assert_eq!(top.target("x"), Path::new(".versions/t/x"));
    }

    #[test]
    fn names_are_read_back_and_foreign_names_are_not() {
        for (name, kind) in [
            (version_name(3, &"a".repeat(64)), EntryKind::Version),
            (partial_name(123_456_789), EntryKind::Partial),
            (link_name(1), EntryKind::Link),
        ] {
            assert_eq!(Entry::parse(&name).map(|entry| entry.kind), Some(kind), "{name}");
        }
        for name in ["dispatch_sla", "7-partial", "00000007-", "00000007-ABCDEF0123456789", "-partial", "x-link"] {
            assert_eq!(Entry::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_file_name_tells_folder_place_version_and_rows() {
        let name = file_name("day=2024-03-18", 2, 7, "0123456789abcdef0000");
        assert_eq!(name, "day=2024-03-18/part-00002-00000007-0123456789abcdef.parquet");
        assert!(has_place(&name, "day=2024-03-18", 2));
        for (folder, index) in [("day=2024-03-18", 3), ("day=2024-03-19", 2), ("", 2)] {
            assert!(!has_place(&name, folder, index), "{folder} {index}");
        }
        assert!(has_place(&file_name("", 0, 1, "a"), "", 0));
    }

    /// Entries as `number kind published_in_minutes`, the current number, now in minutes: the numbers that go.
    fn check(entries: &[(u64, EntryKind, Option<i64>)], current: u64, now: i64, expected: &[u64]) {
        const MINUTE: Micros = 60_000_000;
        let list: Vec<Entry> = entries
            .iter()
            .map(|(number, kind, _)| Entry { number: *number, kind: *kind, name: String::new() })
            .collect();
        let published = |number: u64| {
            entries.iter().find(|entry| entry.0 == number && entry.1 == EntryKind::Version)?.2.map(|at| at * MINUTE)
        };
        let found: Vec<u64> =
            collectable(&list, current, published, now * MINUTE).iter().map(|entry| entry.number).collect();
        assert_eq!(found, expected, "{entries:?} at {now}");
    }

    #[test]
    fn a_version_stays_ten_minutes_after_it_was_replaced() {
        use EntryKind::Version;
        let three = [(1, Version, Some(0)), (2, Version, Some(60)), (3, Version, Some(65))];
        check(&three, 3, 65, &[]);
        check(&three, 3, 69, &[]);
        check(&three, 3, 70, &[1]);
        check(&three, 3, 75, &[1, 2]);
        check(&three, 3, 100_000, &[1, 2]);
        // A clock that went back keeps everything.
        check(&three, 3, -1000, &[]);
        // A version that never became current (4) and one whose manifest is unreadable (2).
        let odd = [(1, Version, Some(0)), (2, Version, None), (3, Version, Some(65)), (4, Version, Some(66))];
        check(&odd, 3, 74, &[]);
        check(&odd, 3, 75, &[1, 2]);
    }

    #[test]
    fn a_leftover_goes_once_its_number_is_passed_and_keeps_it_until_then() {
        use EntryKind::{Link, Partial, Version};
        let entries = [(1, Version, Some(0)), (2, Partial, None), (2, Link, None)];
        check(&entries, 1, 1000, &[]);
        let numbers: Vec<Entry> = entries
            .iter()
            .map(|(number, kind, _)| Entry { number: *number, kind: *kind, name: String::new() })
            .collect();
        assert_eq!(next_number(&numbers), 3);
        check(&[(1, Version, Some(0)), (2, Partial, None), (2, Link, None), (3, Version, Some(1))], 3, 1, &[2, 2]);
        assert_eq!(next_number(&[]), 1);
    }
}
