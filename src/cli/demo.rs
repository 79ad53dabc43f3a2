//! `milepost demo`: a private broker, the shipped events, the shipped pipeline, and a summary of what came of them.
//!
//! What is run and shown is data: `pipelines/demo/demo.yaml` and the SELECTs beside it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use crate::definition::pipeline::{Input, Pipeline};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{BatchTable, run_batch};
use crate::runtime::driver::{self, RunOptions};
use crate::runtime::outlets::{left_tables, state_directory};
use crate::runtime::report::StatusReport;
use crate::source::connect::connect;
use crate::source::server::PrivateServer;

use super::demo_events::merged;
use super::{Outcome, complain, options, output, query, run, status};

/// What `demo` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Everything that the demo writes lies in a folder `demo` under it, which is emptied first
    #[arg(long, value_name = "DIR", default_value = ".milepost")]
    home: PathBuf,
    /// Read the events from a file: no broker, and no change streams
    #[arg(long)]
    embedded: bool,
}

/// `demo.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    pipeline: PathBuf,
    source: String,
    subject: String,
    merge_by: String,
    events: Vec<PathBuf>,
    panels: Vec<PathBuf>,
    story: PathBuf,
    table: PathBuf,
}

/// Runs the demo.
pub(crate) async fn demo(arguments: Arguments) -> Outcome {
    let folder = find_script()?;
    let script = read_script(&folder)?;
    let home = arguments.home.join("demo");
    empty(&home)?;
    let pipeline_path = plain(&folder.join(&script.pipeline));
    let mut pipeline = options::load(&pipeline_path)?;
    let events: Vec<PathBuf> = script.events.iter().map(|path| folder.join(path)).collect();
    let lines = merged(&events, &script.merge_by)?;
    let total = lines.len() as u64;
    let started = now();
    let server = if arguments.embedded {
        let arrival = home.join("arrival.ndjson");
        write_lines(&arrival, &lines)?;
        pipeline.override_source(&script.source, &arrival)?;
        None
    } else {
        let server = PrivateServer::start(&home.join("nats")).await?;
        publish(&server.url(), &pipeline, &script, lines).await?;
        Some(server)
    };
    let published_in = now().duration_since(started);
    let pipeline = Arc::new(pipeline);
    let bar = bar("running the pipeline", total);
    let source = script.source.clone();
    let progress = bar.clone();
    let options = RunOptions {
        home: home.clone(),
        nats: server.as_ref().map_or_else(String::new, PrivateServer::url),
        until_caught_up: true,
        publish: server.is_some(),
        watermark: None,
        progress: Box::new(move |report| progress.set_position(events_of(report, &source))),
    };
    let started = now();
    let report = Box::pin(driver::run(Arc::clone(&pipeline), options, run::stop_signal()?)).await?;
    bar.finish_and_clear();
    let times = Times { published_in, ran_in: now().duration_since(started) };
    summary(&folder, &script, &pipeline, &pipeline_path, &home, &report, &times, server.is_some()).await
}

struct Times {
    published_in: Duration,
    ran_in: Duration,
}

/// Publishes the events, with a bounded number of acknowledgements outstanding.
async fn publish(url: &str, pipeline: &Pipeline, script: &Script, lines: Vec<Bytes>) -> Result<()> {
    let broken = |error: &dyn std::error::Error| {
        Error::new(ErrorKind::Unavailable, format!("publishing the demo's events: {error}"))
    };
    let source = pipeline.sources.iter().find(|source| *source.name == *script.source);
    let Some(Input::JetStream { stream, subjects, .. }) = source.map(|source| &source.input) else {
        return Err(Error::new(ErrorKind::Definition, format!("the demo's source `{}` is no stream", script.source)));
    };
    let broker = connect(url).await?;
    let context = broker.jetstream();
    let config = jetstream::stream::Config { name: stream.clone(), subjects: subjects.clone(), ..Default::default() };
    context.create_stream(config).await.map_err(|error| broken(&error))?;
    let bar = bar("publishing events", lines.len() as u64);
    let mut window = VecDeque::new();
    for line in lines {
        if window.len() >= WINDOW
            && let Some(oldest) = window.pop_front()
        {
            let oldest: jetstream::context::PublishAckFuture = oldest;
            oldest.await.map_err(|error| broken(&error))?;
            bar.inc(1);
        }
        window.push_back(context.publish(script.subject.clone(), line).await.map_err(|error| broken(&error))?);
    }
    for acknowledgement in window {
        acknowledgement.await.map_err(|error| broken(&error))?;
    }
    bar.finish_and_clear();
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the summary is of everything")]
async fn summary(
    folder: &Path,
    script: &Script,
    pipeline: &Pipeline,
    pipeline_path: &Path,
    home: &Path,
    report: &StatusReport,
    times: &Times,
    broker: bool,
) -> Outcome {
    let tables = left_tables(&state_directory(home, &pipeline.name), &query::table_names(pipeline))?;
    let mut text = String::from("\nevents by outcome\n");
    text.push_str(&outcomes(report, &script.source));
    for panel in &script.panels {
        text.push_str(&self::panel(&folder.join(panel), &tables, report).await?);
    }
    let (title, rows) = select(&folder.join(&script.story), &tables, report).await?;
    if let Some(story) = rows.1.first().and_then(|row| row.first()) {
        text.push_str(&format!("\n{title}\n{}", wrapped(story)));
    }
    let events = events_of(report, &script.source);
    text.push_str(&format!(
        "\n{events} events in {:.1} s, {:.0} a second, {} epochs, watermark {}{}\n",
        times.ran_in.as_secs_f64(),
        per_second(events, times.ran_in),
        report.epoch,
        status::instant(report.watermark_us),
        if broker {
            format!("; published to the broker in {:.1} s", times.published_in.as_secs_f64())
        } else {
            String::new()
        },
    ));
    if !broker {
        text.push_str("without a broker: the change streams were left out\n");
    }
    let table = home.join(&script.table);
    text.push_str(&format!("\nParquet tables lie under {}; for example\n", home.display()));
    text.push_str(&format!("  duckdb -c \"SELECT * FROM '{}/*.parquet' LIMIT 10\"\n", table.display()));
    text.push_str(&format!(
        "  milepost query {} --home {} \"SELECT * FROM milepost.dead_letters\"\n",
        pipeline_path.display(),
        home.display()
    ));
    output::print_bytes(text.as_bytes())
}

fn outcomes(report: &StatusReport, source: &str) -> String {
    let Some(found) = report.sources.iter().find(|found| found.source == source) else { return String::new() };
    let counts = found.counts;
    let cells = [counts.read, counts.accepted, counts.duplicate, counts.late, counts.dead_letters];
    let names = ["read", "accepted", "duplicate", "late", "dead letters"];
    output::plain_table(&names.map(str::to_owned), &[cells.iter().map(u64::to_string).collect()])
}

async fn panel(path: &Path, tables: &[BatchTable], report: &StatusReport) -> Result<String> {
    let (title, (header, rows)) = select(path, tables, report).await?;
    Ok(format!("\n{title}\n{}", output::plain_table(&header, &rows)))
}

type TextRows = (Vec<String>, Vec<Vec<String>>);

/// The title and rows of one of the demo's SELECTs.
async fn select(path: &Path, tables: &[BatchTable], report: &StatusReport) -> Result<(String, TextRows)> {
    let sql = read(path)?;
    let title = sql.lines().next().and_then(|line| line.strip_prefix("-- title:")).unwrap_or("").trim().to_owned();
    let (schema, batches) = run_batch(tables, &sql, report.watermark_us)
        .await
        .map_err(|error| Error::new(ErrorKind::Definition, format!("`{}`: {}", path.display(), error.find_root())))?;
    let header = schema.fields().iter().map(|field| field.name().clone()).collect();
    let rows = batches.iter().map(output::texts).collect::<Result<Vec<_>>>()?.concat();
    Ok((title, (header, rows)))
}

/// Text in lines of at most a hundred characters.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from(" ");
    for word in text.split_whitespace() {
        if line.chars().count() + word.chars().count() >= 100 {
            lines.push_str(&line);
            lines.push('\n');
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push_str(&line);
    lines.push('\n');
    lines
}

/// `pipelines/demo` in this folder, one above it, or one above the program's own.
fn find_script() -> Result<PathBuf> {
    let here = current_directory();
    let program = std::env::current_exe().ok();
    let above = |path: Option<PathBuf>| {
        path.into_iter().flat_map(|path| path.ancestors().map(Path::to_owned).collect::<Vec<_>>())
    };
    let found = above(here)
        .chain(above(program))
        .map(|folder| folder.join("pipelines/demo"))
        .find(|folder| folder.join("demo.yaml").is_file());
    found.map(|folder| short(&folder)).ok_or_else(|| {
        Error::new(
            ErrorKind::Definition,
            "`pipelines/demo/demo.yaml` is not above this folder: run the demo in a checkout of Milepost",
        )
    })
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// The path relative to the current folder, if it lies in it.
fn short(path: &Path) -> PathBuf {
    let here = current_directory();
    here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned)).unwrap_or_else(|| path.to_owned())
}

#[expect(clippy::disallowed_methods, reason = "the demo looks for its files around the folder that it is called in")]
fn current_directory() -> Option<PathBuf> {
    std::env::current_dir().ok()
}

fn read_script(folder: &Path) -> Result<Script> {
    let path = folder.join("demo.yaml");
    serde_saphyr::from_str(&read(&path)?)
        .map_err(|error| Error::new(ErrorKind::Definition, format!("`{}`: {error}", path.display())))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::caused(ErrorKind::Definition, format!("reading `{}`", path.display()), error))
}

/// Removes what an earlier demo left, and nothing that isn't a demo's.
fn empty(home: &Path) -> Result<()> {
    let marker = home.join("this-folder-is-emptied-by-milepost-demo");
    let failed = |error| Error::caused(ErrorKind::Unavailable, format!("emptying `{}`", home.display()), error);
    if home.exists() && !marker.is_file() {
        let doing = format!("`{}` was not made by the demo: give `--home` another folder", home.display());
        return Err(Error::new(ErrorKind::Definition, doing));
    }
    if home.exists() {
        std::fs::remove_dir_all(home).map_err(failed)?;
    }
    std::fs::create_dir_all(home).and_then(|()| std::fs::write(&marker, "")).map_err(failed)
}

fn write_lines(path: &Path, lines: &[Bytes]) -> Result<()> {
    let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
    for line in lines {
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    }
    std::fs::write(path, bytes)
        .map_err(|error| Error::caused(ErrorKind::Unavailable, format!("writing `{}`", path.display()), error))
}

fn bar(what: &'static str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{msg:22} [{bar:40}] {pos}/{len} ({per_sec})") {
        bar.set_style(style);
    }
    bar.set_message(what);
    if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        complain(&format!("{what}: {length}"));
    }
    bar
}

fn events_of(report: &StatusReport, source: &str) -> u64 {
    report.sources.iter().find(|found| found.source == source).map_or(0, |found| found.counts.read)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
fn per_second(events: u64, time: Duration) -> f64 {
    events as f64 / time.as_secs_f64().max(0.001)
}

#[expect(clippy::disallowed_methods, reason = "throughput is measured, and decides nothing")]
fn now() -> Instant {
    Instant::now()
}

/// Acknowledgements outstanding, at most.
const WINDOW: usize = 1_024;
