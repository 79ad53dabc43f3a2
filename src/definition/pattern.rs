//! Patterns of file names, as in `data/2024-*/orders.parquet`.
//!
//! | in a pattern | stands for |
//! |---|---|
//! | `*` | any characters of one name, also none |
//! | `?` | one character of a name |
//! | `[ab]`, `[a-z]`, `[!ab]` | one of these characters, one that is none of them |
//! | `**`, as a whole name | any folders, also none |
//!
//! Upper and lower case differ. A wildcard does not stand for a `.` or `_` at the start of a name, by which writers hide
//! what is not data or not complete; see [`is_unfinished`] for the other marks of a file that is being written.

use glob::{MatchOptions, Pattern};

/// A checked pattern. Names are separated by `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePattern {
    text: String,
    base: String,
    steps: Vec<Step>,
}

/// What one name of a path must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// One name.
    Name(Pattern),
    /// Any folders, also none.
    Folders,
}

impl FilePattern {
    /// Whether a path has wildcards in it.
    pub fn is_wild(text: &str) -> bool {
        text.contains(WILDCARDS)
    }

    /// Reads a pattern, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = text.split('/').collect();
        let literal = names.iter().take(names.len().saturating_sub(1)).take_while(|name| !Self::is_wild(name)).count();
        let (base, wild) = names.split_at_checked(literal).unwrap_or((&[], &names));
        let steps = wild.iter().map(|name| step(name)).collect::<Result<Vec<_>, _>>()?;
        if !matches!(steps.last(), Some(Step::Name(_))) {
            return Err("`**` stands for folders: a name must follow it, as in `**/*.ndjson`".to_owned());
        }
        let base = base.iter().map(|name| format!("{name}/")).collect();
        Ok(Self { text: text.to_owned(), base, steps })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The folder before the first wildcard, with its `/`; empty where there is none.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What the names below [`FilePattern::base`] must look like, one after another.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether a whole path matches.
    pub fn matches(&self, path: &str) -> bool {
        let Some(below) = path.strip_prefix(&self.base) else { return false };
        let names: Vec<&str> = below.split('/').collect();
        names.len() <= NAMES_MAX && all_match(&self.steps, &names)
    }
}

impl Step {
    /// Whether a name looks like this.
    pub fn matches(&self, name: &str) -> bool {
        let Self::Name(pattern) = self else { return !name.starts_with(HIDING) };
        let hidden = name.starts_with(HIDING) && !pattern.as_str().starts_with(HIDING);
        !hidden && pattern.matches_with(name, OPTIONS)
    }
}

/// Whether a name marks a file that its writer has not finished: it ends in `.tmp`, `.part` or `.partial`, or in `#` and
/// digits, as what object stores on a local disk write.
pub fn is_unfinished(name: &str) -> bool {
    let numbered = name.rsplit_once('#').is_some_and(|(_, digits)| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let lower = name.to_ascii_lowercase();
    numbered || UNFINISHED.iter().any(|ending| lower.ends_with(ending))
}

fn all_match(steps: &[Step], names: &[&str]) -> bool {
    match (steps.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((Step::Folders, later)), Some((name, deeper))) => {
            all_match(later, names) || (Step::Folders.matches(name) && all_match(steps, deeper))
        }
        (Some((step, steps)), Some((name, names))) => step.matches(name) && all_match(steps, names),
        _ => false,
    }
}

fn step(name: &str) -> Result<Step, String> {
    match name {
        "**" => Ok(Step::Folders),
        _ if name.contains("**") => Err("`**` must be a whole name, as in `data/**/*.ndjson`".to_owned()),
        "" => Err("a name in it is empty".to_owned()),
        "." | ".." => Err(format!("`{name}` can't follow a wildcard")),
        _ => Pattern::new(name).map(Step::Name).map_err(|error| format!("in `{name}`, {}", error.msg)),
    }
}

const WILDCARDS: [char; 3] = ['*', '?', '['];
const HIDING: [char; 2] = ['.', '_'];
const UNFINISHED: [&str; 3] = [".tmp", ".part", ".partial"];
/// Deeper paths match nothing: with several `**` the time grows with a power of the depth.
const NAMES_MAX: usize = 64;
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, expected: bool) {
        let parsed = FilePattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(parsed.matches(path), expected, "`{pattern}` and `{path}`");
    }

    #[test]
    fn wildcards_stand_for_parts_of_one_name() {
        check("data/2024-*/orders.parquet", "data/2024-01/orders.parquet", true);
        check("data/2024-*/orders.parquet", "data/2024-01/x/orders.parquet", false);
        check("data/2024-*/orders.parquet", "data/2023-01/orders.parquet", false);
        check("data/2024-*/orders.parquet", "other/2024-01/orders.parquet", false);
        check("*.csv", "a.csv", true);
        check("*.csv", "a.CSV", false);
        check("*.csv", "x/a.csv", false);
        check("/data/part-?.csv", "/data/part-1.csv", true);
        check("/data/part-?.csv", "/data/part-12.csv", false);
        check("../[ab].csv", "../b.csv", true);
        check("../[!ab].csv", "../b.csv", false);
    }

    #[test]
    fn two_stars_stand_for_any_folders() {
        for (path, expected) in [
            ("in/a.csv", true),
            ("in/x/a.csv", true),
            ("in/x/y/a.csv", true),
            ("in/_x/a.csv", false),
            ("in/.x/y/a.csv", false),
            ("in/x/y/a.txt", false),
        ] {
            check("in/**/*.csv", path, expected);
        }
        check("in/**/y/**/*.csv", "in/y/a.csv", true);
        check("in/**/y/**/*.csv", "in/x/y/z/a.csv", true);
        check("in/**/y/**/*.csv", "in/x/z/a.csv", false);
        check("in/**/*.csv", &format!("in/{}a.csv", "x/".repeat(10_000)), false);
    }

    #[test]
    fn wildcard_does_not_stand_for_what_hides_a_name() {
        check("*", ".a.csv", false);
        check("*", "_a.csv", false);
        check("*/a.csv", "_delta_log/a.csv", false);
        check("_*", "_a.csv", true);
        check(".in/*", ".in/a.csv", true);
        check("?x", ".x", false);
        check("[._]x", "_x", false);
    }

    #[test]
    fn marks_of_unfinished_files_are_known() {
        for name in ["a.ndjson.tmp", "a.TMP", "a.csv.part", "a.csv.partial", "a.parquet#1", "a.parquet#27"] {
            assert!(is_unfinished(name), "{name}");
        }
        for name in ["a.ndjson", "tmp", "a.tmp.csv", "a#b.csv", "part.csv", "a#1.csv"] {
            assert!(!is_unfinished(name), "{name}");
        }
    }

    #[test]
    fn pattern_that_can_mean_nothing_is_refused() {
        let refused = |pattern: &str| FilePattern::parse(pattern).expect_err(pattern);
        assert!(refused("a/**").contains("a name must follow it"));
        assert!(refused("a**/b").contains("must be a whole name"));
        assert!(refused("*//b").contains("is empty"));
        assert!(refused("a[b").contains("in `a[b`"));
    }

    #[test]
    fn base_is_what_stands_before_the_first_wildcard() {
        for (pattern, base) in
            [("*.csv", ""), ("a/b/*.csv", "a/b/"), ("/a/*/b.csv", "/a/"), ("/*.csv", "/"), ("../x/**/c", "../x/")]
        {
            assert_eq!(FilePattern::parse(pattern).expect("a pattern").base(), base, "{pattern}");
        }
    }
}
