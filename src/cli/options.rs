//! Flags that commands share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::DateTime;
use clap::{Args, ValueEnum};

use crate::definition::pipeline::Pipeline;
use crate::definition::{self, duration};
use crate::diagnostic::Diagnostics;
use crate::types::Micros;

/// What every command about a pipeline takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// The pipeline file
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: PathBuf,
    /// Everything that Milepost writes lies under it
    #[arg(long, value_name = "DIR", default_value = ".milepost")]
    pub(crate) home: PathBuf,
    /// Read this source from files instead of what the pipeline names: a path, a folder with `/` at its end, a glob or
    /// `s3://BUCKET/KEY`; repeatable
    #[arg(long = "source", value_name = "NAME=PATH", value_parser = parse_source)]
    pub(crate) sources: Vec<(String, PathBuf)>,
    /// Where time comes from, instead of what the pipeline says: `broker` or `event_time`
    #[arg(long, value_name = "CLOCK")]
    pub(crate) clock: Option<String>,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For reading; long values are cut off where the lines would be wider than 160 characters
    Table,
    /// With a header line
    Csv,
    /// One object a line; decimals and times as strings
    Json,
    /// A Parquet file
    Parquet,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For reading
    Table,
    /// One JSON document
    Json,
}

/// Reads a pipeline with everything that it names; variables come from the process's environment.
pub(crate) fn load(path: &Path) -> Result<Pipeline, Diagnostics> {
    definition::load(path, &environment)
}

#[expect(clippy::disallowed_methods, reason = "the environment is the edge's to read")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn parse_source(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), PathBuf::from(path))),
        _ => Err("write it as NAME=PATH, for example milestones=events.ndjson".to_owned()),
    }
}

/// A length of time such as `30s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let micros = duration::parse(text).map_err(|(wrong, right)| format!("{wrong}: write {right}"))?;
    u64::try_from(micros).map(Duration::from_micros).map_err(|_| "it is negative".to_owned())
}

/// An instant as RFC 3339.
pub(crate) fn parse_instant(text: &str) -> Result<Micros, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|instant| instant.timestamp_micros())
        .map_err(|error| format!("write it as 2024-06-30T12:00:00Z ({error})"))
}
