//! `milepost demo`: a private broker, the shipped events, the shipped pipelines, and a summary of what came of them.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use bytes::Bytes;
use clap::Args;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use indicatif::{ProgressBar, ProgressStyle};

use crate::checkpoint::HomeLock;
use crate::definition::pipeline::{Input, NatsSettings, Pipeline};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::driver::{self, RunOptions};
use crate::runtime::outlets::{left_tables, state_directory};
use crate::runtime::report::StatusReport;
use crate::source::connect::connect;
use crate::source::server::PrivateServer;

use super::demo_events::merged;
use super::demo_proof::{Kept, Played, demo_home, keep, send_proof};
use super::demo_script::{Act, Script, plain, select, short};
use super::{Failure, Outcome, complain, options, output, query, run, status};

/// What `demo` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Everything that the demo writes lies in a folder `demo` under it, which is emptied first
    #[arg(long, value_name = "DIR", default_value = ".milepost")]
    home: PathBuf,
    /// Read the events from files: no broker, and no change streams
    #[arg(long)]
    embedded: bool,
    /// Stay up after the summary, and show what the pipelines publish
    #[arg(long, conflicts_with = "embedded")]
    keep: bool,
    /// Send the demo that stays up the corrected proof of the delivery that its summary told of
    #[arg(long, conflicts_with_all = ["embedded", "keep"])]
    send_proof: bool,
}

/// Runs the demo.
pub(crate) async fn demo(arguments: Arguments) -> Outcome {
    let home = demo_home(&arguments.home);
    if arguments.send_proof {
        return send_proof(&home).await;
    }
    let (folder, script) = Script::find()?;
    let _alone = alone(&arguments.home)?;
    empty(&home)?;
    let server = if arguments.embedded { None } else { Some(PrivateServer::start(&home.join("nats")).await?) };
    let stage =
        Stage { folder, home, nats: server.as_ref().map(PrivateServer::url), stop: run::stop_signal()?.shared() };
    let (mut played, mut kept) = (Vec::new(), None);
    for act in &script.acts {
        let (pipeline, report, waits) = stage.play(act).await?;
        played.push(Played { pipeline, epoch: report.epoch });
        kept = kept.or(waits);
        if stage.stop.clone().now_or_never().is_some() {
            return Ok(());
        }
    }
    output::print_bytes(stage.farewell().as_bytes())?;
    match &stage.nats {
        Some(nats) if arguments.keep => keep(&stage.home, played, kept, nats, stage.stop.clone()).await,
        _ => Ok(()),
    }
}

/// Where the pipelines are played.
struct Stage {
    folder: PathBuf,
    home: PathBuf,
    /// The private broker; none without one.
    nats: Option<String>,
    stop: Shared<BoxFuture<'static, ()>>,
}

struct Times {
    published_in: Duration,
    ran_in: Duration,
}

impl Stage {
    /// Runs one pipeline on its events and prints its part of the summary. Returns what it still waits for.
    async fn play(&self, act: &Act) -> Result<(Arc<Pipeline>, StatusReport, Option<Kept>), Failure> {
        let path = plain(&self.folder.join(&act.pipeline));
        let mut pipeline = options::load(&path)?;
        let events: Vec<PathBuf> = act.events.iter().map(|path| self.folder.join(path)).collect();
        let lines = merged(&events, &act.merge_by)?;
        let total = lines.len() as u64;
        let started = now();
        match &self.nats {
            Some(nats) => publish(nats, &pipeline, act, lines).await?,
            None => {
                let arrival = self.home.join(format!("{}-arrival.ndjson", pipeline.name));
                write_lines(&arrival, &lines)?;
                pipeline.override_source(&act.source, &arrival)?;
            }
        }
        let published_in = now().duration_since(started);
        let pipeline = Arc::new(pipeline);
        let bar = bar(&format!("running {}", pipeline.name), total);
        let (source, progress) = (act.source.clone(), bar.clone());
        let options = RunOptions {
            home: self.home.clone(),
            nats: self.nats.as_ref().map(NatsSettings::at).unwrap_or_default(),
            until_caught_up: true,
            publish: self.nats.is_some(),
            watermark: None,
            snapshot_every: driver::SNAPSHOT_EVERY,
            progress: Box::new(move |report| progress.set_position(events_of(report, &source))),
        };
        let started = now();
        let report = Box::pin(driver::run(Arc::clone(&pipeline), options, self.stop.clone().boxed())).await?;
        bar.finish_and_clear();
        let times = Times { published_in, ran_in: now().duration_since(started) };
        let kept = self.summary(act, &pipeline, &path, &report, &times).await?;
        Ok((pipeline, report, kept))
    }

    async fn summary(
        &self,
        act: &Act,
        pipeline: &Pipeline,
        path: &Path,
        report: &StatusReport,
        times: &Times,
    ) -> Result<Option<Kept>, Failure> {
        let tables = left_tables(&state_directory(&self.home, &pipeline.name), &query::table_names(pipeline))?;
        let mut text = format!("\n── {} {}\n", pipeline.name, "─".repeat(95_usize.saturating_sub(pipeline.name.len())));
        text.push_str(&format!("\nevents by outcome\n{}", outcomes(report, &act.source)));
        for panel in &act.panels {
            text.push_str(&select(&self.folder.join(panel), &tables, report.watermark_us).await?.panel());
        }
        let story = select(&self.folder.join(&act.story), &tables, report.watermark_us).await?;
        if let Some(told) = story.rows.first().and_then(|row| row.first()) {
            text.push_str(&format!("\n{}\n{}", story.title, wrapped(told)));
        }
        text.push_str(&self.throughput(events_of(report, &act.source), report, times));
        let table = self.home.join(&act.table);
        text.push_str("\nto look at it, with DuckDB or any reader of Parquet, and with Milepost\n");
        text.push_str(&format!("  duckdb -c \"SELECT * FROM '{}/**/*.parquet' LIMIT 10\"\n", table.display()));
        text.push_str(&format!(
            "  {} query {} --home {} \"SELECT * FROM milepost.dead_letters\"\n",
            program(),
            path.display(),
            self.home.display()
        ));
        output::print_bytes(text.as_bytes())?;
        let (Some(proof), Some(nats)) = (&act.proof, &self.nats) else { return Ok(None) };
        let told = (&story, report);
        Ok(Kept::prepare(&self.folder, proof, pipeline, &tables, told, (nats, &act.subject)).await?)
    }

    fn throughput(&self, events: u64, report: &StatusReport, times: &Times) -> String {
        let published = if self.nats.is_some() {
            format!("; published to the broker in {:.1} s", times.published_in.as_secs_f64())
        } else {
            String::new()
        };
        format!(
            "\n{events} events in {:.1} s, {:.0} a second, {} epochs, watermark {}{published}\n",
            times.ran_in.as_secs_f64(),
            per_second(events, times.ran_in),
            report.epoch,
            status::instant(report.watermark_us),
        )
    }

    fn farewell(&self) -> String {
        let broker = if self.nats.is_some() { "" } else { "; without a broker, the change streams were left out" };
        format!("\nParquet tables lie under {}{broker}\n", self.home.display())
    }
}

/// How the reader calls this program.
fn program() -> String {
    std::env::current_exe().ok().map_or_else(|| "milepost".to_owned(), |path| short(&path).display().to_string())
}

/// Publishes the events, with a bounded number of acknowledgements outstanding.
async fn publish(url: &str, pipeline: &Pipeline, act: &Act, lines: Vec<Bytes>) -> Result<()> {
    let broken = |error: &dyn std::error::Error| {
        Error::new(ErrorKind::Unavailable, format!("publishing the demo's events: {error}"))
    };
    let source = pipeline.sources.iter().find(|source| *source.name == *act.source);
    let Some(Input::JetStream { stream, subjects, .. }) = source.map(|source| &source.input) else {
        return Err(Error::new(ErrorKind::Definition, format!("the demo's source `{}` is no stream", act.source)));
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
        window.push_back(context.publish(act.subject.clone(), line).await.map_err(|error| broken(&error))?);
    }
    for acknowledgement in window {
        acknowledgement.await.map_err(|error| broken(&error))?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn outcomes(report: &StatusReport, source: &str) -> String {
    let Some(found) = report.sources.iter().find(|found| found.source == source) else { return String::new() };
    let counts = found.counts;
    let cells = [counts.read, counts.accepted, counts.duplicate, counts.late, counts.dead_letters];
    let names = ["read", "accepted", "duplicate", "late", "dead letters"];
    output::plain_table(&names.map(str::to_owned), &[cells.iter().map(u64::to_string).collect()])
}

/// Text in lines of at most a hundred characters.
pub(crate) fn wrapped(text: &str) -> String {
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

/// Keeps a second demo from emptying the folder of one that runs.
fn alone(home: &Path) -> Result<HomeLock> {
    HomeLock::take(&home.join(".demo")).map_err(|error| match error.kind() {
        ErrorKind::Fenced => {
            let doing =
                format!("another demo runs under `{}`: end it, or give `--home` another folder", home.display());
            Error::new(ErrorKind::Fenced, doing)
        }
        _ => error,
    })
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

fn bar(what: &str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{msg:36} [{bar:40}] {pos}/{len} ({per_sec})") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
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
