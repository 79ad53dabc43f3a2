//! Files as users have them: of any form, many of them, changing, arriving while the pipeline runs, in buckets.

mod bounded;
mod buckets;
mod changes;
mod forms;
mod watched;

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Running, Said, folder, milepost_in, start_in};

const CONTRACT: &str = r#"{"$id": "line.v1", "type": "object", "required": ["id", "text"], "properties": {
    "id": {"type": "integer"},
    "text": {"type": "string"},
    "kind": {"type": "string", "enum": ["a", "b"]},
    "amount": {"type": "number", "x-decimal": {"precision": 12, "scale": 2}},
    "ratio": {"type": "number"},
    "flag": {"type": "boolean"},
    "day": {"type": "string", "format": "date"},
    "clock": {"type": "string", "format": "time"},
    "at": {"type": "string", "format": "date-time"},
    "size": {"type": "object", "properties": {"unit": {"type": "string"}, "value": {"type": "integer"}}},
    "tags": {"type": "array", "items": {"type": "string"}}
}}"#;

const ROWS: &str = "SELECT _sequence AS position, _index AS nth, _stream AS file, id, text, kind, amount, ratio, flag, \
                    day, clock, at, size, tags FROM lines";

/// A pipeline on files, in a folder of its own: one source `lines`, one job `rows` that shows all of it.
pub(super) struct Trial {
    work: TempDir,
    home: TempDir,
    flags: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Trial {
    /// The source `lines` has these fields beside its contract.
    pub(super) fn new(source: &str) -> Self {
        Self::with("", source, "")
    }

    /// The same with more sources before `lines`, and more behind the jobs.
    pub(super) fn with(sources: &str, lines: &str, rest: &str) -> Self {
        let trial = Self { work: folder(), home: folder(), flags: Vec::new(), environment: Vec::new() };
        let pipeline = format!(
            "pipeline: p\nclock: event_time\nsources:\n{sources}  lines: {{ contract: contract.json, {lines} }}\n\
             jobs:\n  rows: {{ sql: rows.sql, key: [position] }}\n{rest}"
        );
        trial.write("p.yaml", pipeline.as_bytes());
        trial.write("contract.json", CONTRACT.as_bytes());
        trial.write("rows.sql", ROWS.as_bytes());
        trial
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Puts a file beside the pipeline, as careful writers do: under another name first.
    pub(super) fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        let unfinished = path.with_extension("unfinished.tmp");
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder");
        std::fs::write(&unfinished, content).expect("writable");
        std::fs::rename(unfinished, path).expect("renamed");
    }

    /// Everything is read anew from here on.
    pub(super) fn renew_home(&mut self) {
        self.home = folder();
    }

    /// Reads `lines` from elsewhere from here on.
    pub(super) fn read_from(&mut self, path: &str) {
        self.flags = vec!["--source".to_owned(), format!("lines={path}")];
    }

    fn arguments(&self, command: &str, further: &[&str]) -> Vec<String> {
        let (pipeline, home) = (self.path("p.yaml").display().to_string(), self.home.path().display().to_string());
        [command, &pipeline, "--home", &home].iter().chain(further).map(|&argument| argument.to_owned()).collect()
    }

    fn run_arguments(&self, further: &[&str]) -> Vec<String> {
        let flags = self.flags.iter().map(String::as_str);
        self.arguments("run", &flags.chain(further.iter().copied()).collect::<Vec<_>>())
    }

    /// `milepost COMMAND PIPELINE --home … further`.
    pub(super) fn ask(&self, command: &str, further: &[&str]) -> Said {
        let arguments = self.arguments(command, further);
        milepost_in(&self.environment, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs until all is read.
    pub(super) fn run(&self) -> Said {
        let arguments = self.run_arguments(&["--until-caught-up"]);
        milepost_in(&self.environment, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs in the background.
    pub(super) fn start(&self, further: &[&str]) -> Running {
        let arguments = self.run_arguments(further);
        start_in(&self.environment, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The rows of a SELECT as CSV, without the header.
    #[track_caller]
    pub(super) fn query(&self, sql: &str) -> Vec<String> {
        let said = self.ask("query", &[sql, "--format", "csv"]).text();
        said.lines().skip(1).map(str::to_owned).collect()
    }

    /// The same; none where nobody answers, as in the instant in which a run begins anew.
    pub(super) fn found(&self, sql: &str) -> Option<Vec<String>> {
        let said = self.ask("query", &[sql, "--format", "csv"]);
        let rows = |said: Said| String::from_utf8_lossy(&said.out).lines().skip(1).map(str::to_owned).collect();
        (said.status == Some(0)).then(|| rows(said))
    }

    /// What was read: file, position and id of each row.
    #[track_caller]
    pub(super) fn places(&self) -> Vec<String> {
        self.query("SELECT concat_ws(' ', file, position, id) FROM rows ORDER BY position")
    }

    /// The report of `status`; none if there is none yet.
    pub(super) fn status(&self) -> Option<Value> {
        let said = self.ask("status", &["--format", "json"]);
        (said.status == Some(0)).then(|| serde_json::from_slice(&said.out).expect("JSON"))
    }

    /// The ids in `rows` now, smallest first; none as long as there is no table.
    pub(super) fn ids(&self) -> Option<String> {
        self.found("SELECT id FROM rows ORDER BY id").map(|ids| ids.join(" "))
    }

    /// What the run says that it waits for.
    pub(super) fn trouble(&self) -> String {
        self.status().and_then(|status| Some(status["trouble"].as_str()?.to_owned())).unwrap_or_default()
    }
}

/// Small events with these ids, one a line.
pub(super) fn lines(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| format!("{{\"id\":{id},\"text\":\"t{id}\"}}\n").into_bytes()).collect()
}

pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("written");
    encoder.finish().expect("finished")
}

pub(super) fn zstd_packed(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 3).expect("packed")
}

pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
