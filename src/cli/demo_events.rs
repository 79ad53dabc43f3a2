//! The demo's events: several files, merged by the time at which each event was recorded.

use std::path::Path;

use bytes::Bytes;
use chrono::DateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::types::Micros;

/// The lines of all files in the order of their times; at equal times in the order of the files. A line without a readable
/// time goes right behind the line before it in its file: a malformed message arrives like any other.
pub(crate) fn merged(files: &[impl AsRef<Path>], merge_by: &str) -> Result<Vec<Bytes>> {
    let mut lines: Vec<(Option<Micros>, Bytes)> = Vec::new();
    for file in files {
        let path = file.as_ref();
        let bytes = std::fs::read(path).map_err(|error| {
            Error::caused(ErrorKind::Definition, format!("reading the demo's events from `{}`", path.display()), error)
        })?;
        lines.extend(timed(&Bytes::from(bytes), merge_by));
    }
    lines.sort_by_key(|&(time, _)| time);
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

fn timed(bytes: &Bytes, merge_by: &str) -> Vec<(Option<Micros>, Bytes)> {
    let mut last = None;
    bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            last = time(line, merge_by).or(last);
            (last, bytes.slice_ref(line))
        })
        .collect()
}

fn time(line: &[u8], merge_by: &str) -> Option<Micros> {
    let event: serde_json::Value = serde_json::from_slice(line).ok()?;
    let text = event.get(merge_by)?.as_str()?;
    DateTime::parse_from_rfc3339(text).ok().map(|instant| instant.timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_a_time_stays_behind_the_one_before_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("writable");
            path
        };
        let first =
            write("a", "{\"at\":\"2024-01-01T00:00:02Z\",\"n\":1}\n{broken\n{\"at\":\"2024-01-01T00:00:09Z\"}\n");
        let second = write("b", "{\"at\":\"2024-01-01T00:00:01Z\"}\n{\"at\":\"2024-01-01T01:00:02+01:00\",\"n\":2}\n");
        let lines = merged(&[first, second], "at").expect("merges");
        let texts: Vec<&str> = lines.iter().map(|line| std::str::from_utf8(line).expect("text")).collect();
        assert_eq!(
            texts[1..4],
            ["{\"at\":\"2024-01-01T00:00:02Z\",\"n\":1}", "{broken", "{\"at\":\"2024-01-01T01:00:02+01:00\",\"n\":2}"]
        );
    }
}
