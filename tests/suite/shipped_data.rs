//! The shipped pipeline and its events, in the order in which the demo sends them.

use std::path::{Path, PathBuf};

use chrono::DateTime;
use serde_json::Value;

/// How many messages the shipped events are; data/README.md says it.
pub(crate) const MESSAGES: usize = 38_949;

/// A path in the repository.
pub(crate) fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The pipeline file.
pub(crate) fn pipeline_path() -> PathBuf {
    in_repository("pipelines/order_to_invoice.yaml")
}

/// The lines of one of the files of events.
pub(crate) fn lines_of(file: &str) -> Vec<String> {
    let path = in_repository("data/order_to_invoice").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// All events by `recorded_at`; at ties observed before derived before injected. A line whose time can't be read goes right
/// behind the line before it in its file.
pub(crate) fn events() -> Vec<String> {
    let mut timed = Vec::new();
    for file in ["observed.ndjson", "derived.ndjson", "injected.ndjson"] {
        let mut last = None;
        for line in lines_of(file) {
            last = recorded_at(&line).or(last);
            timed.push((last, line));
        }
    }
    timed.sort_by_key(|&(time, _)| time);
    assert_eq!(timed.len(), MESSAGES, "data/README.md gives the number of messages");
    timed.into_iter().map(|(_, line)| line).collect()
}

/// A text property of an event; none where the line is no event or has no such property.
pub(crate) fn property(line: &str, name: &str) -> Option<String> {
    serde_json::from_str::<Value>(line).ok()?.get(name)?.as_str().map(str::to_owned)
}

fn recorded_at(line: &str) -> Option<i64> {
    let time = property(line, "recorded_at")?;
    DateTime::parse_from_rfc3339(&time).ok().map(|instant| instant.timestamp_micros())
}
