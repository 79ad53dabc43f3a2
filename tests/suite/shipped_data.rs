//! The shipped pipelines and their events, in the order in which the demo sends them.

use std::path::{Path, PathBuf};

use chrono::DateTime;
use serde_json::Value;

/// A shipped pipeline and its data.
pub(crate) struct Shipped {
    /// The name of the pipeline, of its file, of the folder of its data, and of the script that works it out independently.
    pub(crate) name: &'static str,
    /// The stream of its events, and the subjects in it.
    pub(crate) stream: (&'static str, &'static str),
    /// The files of its events: at equal times the earlier file comes first.
    event_files: &'static [&'static str],
    /// How many messages its events are; data/README.md says it, as it says what becomes of them.
    pub(crate) messages: usize,
    pub(crate) accepted: u64,
    pub(crate) duplicate: u64,
    pub(crate) dead_letters: u64,
}

/// From milestones to invoice triggers.
pub(crate) const ORDERS: Shipped = Shipped {
    name: "order_to_invoice",
    stream: ("MILESTONES", "milestones.>"),
    event_files: &["observed.ndjson", "derived.ndjson", "injected.ndjson"],
    messages: 38_949,
    accepted: 38_923,
    duplicate: 3,
    dead_letters: 23,
};

/// Stock, and what the ERP says of it.
pub(crate) const STOCK: Shipped = Shipped {
    name: "inventory_reconciliation",
    stream: ("WAREHOUSE", "warehouse.>"),
    event_files: &["observed.ndjson", "injected.ndjson"],
    messages: 9_296,
    accepted: 9_290,
    duplicate: 1,
    dead_letters: 5,
};

impl Shipped {
    /// The pipeline file.
    pub(crate) fn pipeline_path(&self) -> PathBuf {
        in_repository(&format!("pipelines/{}.yaml", self.name))
    }

    /// A file of its data.
    pub(crate) fn data(&self, file: &str) -> PathBuf {
        in_repository(&format!("data/{}", self.name)).join(file)
    }

    /// The lines of one of the files of events.
    pub(crate) fn lines_of(&self, file: &str) -> Vec<String> {
        let path = self.data(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// All events by `recorded_at`; at ties in the order of the files. A line whose time can't be read goes right behind the line
    /// before it in its file.
    pub(crate) fn events(&self) -> Vec<String> {
        let mut timed = Vec::new();
        for file in self.event_files {
            let mut last = None;
            for line in self.lines_of(file) {
                last = recorded_at(&line).or(last);
                timed.push((last, line));
            }
        }
        timed.sort_by_key(|&(time, _)| time);
        assert_eq!(timed.len(), self.messages, "data/README.md gives the number of messages");
        timed.into_iter().map(|(_, line)| line).collect()
    }
}

/// A path in the repository.
pub(crate) fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The pipeline file of [`ORDERS`].
pub(crate) fn pipeline_path() -> PathBuf {
    ORDERS.pipeline_path()
}

/// The events of [`ORDERS`].
pub(crate) fn events() -> Vec<String> {
    ORDERS.events()
}

/// A text property of an event; none where the line is no event or has no such property.
pub(crate) fn property(line: &str, name: &str) -> Option<String> {
    serde_json::from_str::<Value>(line).ok()?.get(name)?.as_str().map(str::to_owned)
}

fn recorded_at(line: &str) -> Option<i64> {
    let time = property(line, "recorded_at")?;
    DateTime::parse_from_rfc3339(&time).ok().map(|instant| instant.timestamp_micros())
}
