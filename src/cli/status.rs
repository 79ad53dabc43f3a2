//! `milepost status`.

use chrono::{DateTime, SecondsFormat};
use clap::Args;

use crate::runtime::left_status;
use crate::runtime::outlets::state_directory;
use crate::runtime::report::{HistoryReport, StatusReport};
use crate::runtime::socket::{Reply, Request, ask};
use crate::types::Micros;

use super::options::{Common, ReportFormat};
use super::query::nothing_left;
use super::{Outcome, output, prepared};

/// What `status` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// Shows how the pipeline stands.
pub(crate) async fn status(arguments: &Arguments) -> Outcome {
    let pipeline = prepared(&arguments.common)?;
    let directory = state_directory(&arguments.common.home, &pipeline.name);
    let report = match ask(&directory, &Request::Status).await? {
        Some(Reply::Status(report)) => report,
        _ => match left_status(&directory)? {
            Some(report) => report,
            None => return Err(nothing_left(&pipeline, &arguments.common)),
        },
    };
    match arguments.format {
        ReportFormat::Json => output::print_json(&report),
        ReportFormat::Table => output::print_bytes(text(&report).as_bytes()),
    }
}

/// The report for reading.
pub(crate) fn text(report: &StatusReport) -> String {
    let state = if report.running { "running" } else { "not running" };
    let mut text = format!(
        "pipeline {}: {state}, epoch {}, clock {}, watermark {}\n",
        report.pipeline,
        report.epoch,
        instant(report.clock_us),
        instant(report.watermark_us)
    );
    if let Some(trouble) = &report.trouble {
        text.push_str(&format!("trouble: {trouble}\n"));
    }
    text.push_str("\nsources: read = accepted + duplicate + late + dead letters\n");
    let header = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let sources: Vec<Vec<String>> = report.sources.iter().map(source_row).collect();
    let names = ["name", "next", "behind", "read", "accepted", "duplicate", "late", "dead letters", "adds up"];
    text.push_str(&output::plain_table(&header(&names), &sources));
    text.push_str("\njobs\n");
    let jobs: Vec<Vec<String>> = report
        .jobs
        .iter()
        .map(|job| vec![job.job.clone(), job.rows.to_string(), job.errors.to_string(), job.ambiguous_keys.to_string()])
        .collect();
    text.push_str(&output::plain_table(&header(&["name", "rows", "error rows", "ambiguous keys"]), &jobs));
    if !report.histories.is_empty() {
        text.push_str("\nhistories\n");
        let row = |history: &HistoryReport| vec![history.history.clone(), history.rows.to_string()];
        let rows: Vec<Vec<String>> = report.histories.iter().map(row).collect();
        text.push_str(&output::plain_table(&header(&["name", "versions"]), &rows));
    }
    text
}

fn source_row(source: &crate::runtime::report::SourceReport) -> Vec<String> {
    let counts = source.counts;
    let behind = source.end.map_or_else(String::new, |end| end.saturating_sub(source.next).to_string());
    let numbers = [counts.read, counts.accepted, counts.duplicate, counts.late, counts.dead_letters];
    let adds_up = if counts.add_up() { "yes" } else { "NO" };
    [source.source.clone(), source.next.to_string(), behind]
        .into_iter()
        .chain(numbers.iter().map(u64::to_string))
        .chain([adds_up.to_owned()])
        .collect()
}

/// An instant for reading; `none` where there is none.
pub(crate) fn instant(micros: Option<Micros>) -> String {
    micros
        .and_then(DateTime::from_timestamp_micros)
        .map_or_else(|| "none".to_owned(), |instant| instant.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}
