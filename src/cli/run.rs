//! `milepost run`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use futures::FutureExt;
use futures::future::BoxFuture;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::driver::{self, RunOptions};
use crate::runtime::report::StatusReport;
use crate::types::Micros;

use super::options::{Common, parse_duration, parse_instant};
use super::{Outcome, prepared, status};

/// What `run` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// The broker, instead of the pipeline's `nats.url` [default: nats://127.0.0.1:4222]
    #[arg(long, value_name = "URL", env = "NATS_URL", hide_env_values = true)]
    nats: Option<String>,
    /// A credentials file for it, instead of what the pipeline's `nats` names
    #[arg(long, value_name = "FILE", env = "NATS_CREDS")]
    nats_creds: Option<PathBuf>,
    /// Process what is there, write the tables, exit 0
    #[arg(long)]
    until_caught_up: bool,
    /// Write tables only: leave the change streams alone
    #[arg(long)]
    no_publish: bool,
    /// A last tick that closes a finished history, such as 2024-06-30T00:00:00Z
    #[arg(long, value_name = "TS", value_parser = parse_instant, requires = "until_caught_up")]
    watermark: Option<Micros>,
    /// How often the state is stored, so that a restart begins there; a number with `ms`, `s`, `m` or `h`
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    snapshot_every: Duration,
}

/// Runs the pipeline until it is stopped or has caught up.
pub(crate) async fn run(arguments: Arguments) -> Outcome {
    let pipeline = prepared(&arguments.common)?;
    let options = RunOptions {
        home: arguments.common.home,
        nats: pipeline.nats.clone().overridden(given(arguments.nats), given(arguments.nats_creds)),
        until_caught_up: arguments.until_caught_up,
        publish: !arguments.no_publish,
        watermark: arguments.watermark,
        snapshot_every: arguments.snapshot_every,
        progress: progress(),
    };
    tracing::info!(pipeline = %pipeline.name, home = %options.home.display(), "runs");
    let report = Box::pin(driver::run(pipeline, options, stop_signal()?)).await?;
    let (events, master_data) = (report.events_read(), report.master_data_read());
    tracing::info!(epoch = report.epoch, events, master_data, "ended");
    Ok(())
}

/// A flag, unless it is empty, as a variable of the environment may be.
pub(super) fn given<T: AsRef<std::ffi::OsStr>>(flag: Option<T>) -> Option<T> {
    flag.filter(|flag| !flag.as_ref().is_empty())
}

/// Resolves at the first SIGINT or SIGTERM; a second one ends the process at once.
#[expect(clippy::disallowed_methods, reason = "a second signal means now; the task lives as long as the process")]
pub(crate) fn stop_signal() -> Result<BoxFuture<'static, ()>> {
    let failed = |error| Error::caused(ErrorKind::Unavailable, "listening for signals", error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (tell, told) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        tracing::info!("finishes the epoch; once more ends at once");
        if tell.send(()).is_err() {
            return;
        }
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        std::process::exit(130);
    });
    Ok(told.map(|_| ()).boxed())
}

/// On a terminal a live line; elsewhere a log line every few seconds.
fn progress() -> Box<dyn FnMut(&StatusReport) + Send> {
    if std::io::stderr().is_terminal() {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        return Box::new(move |report| bar.set_message(line(report)));
    }
    let mut last: Option<Instant> = None;
    Box::new(move |report| {
        let now = now();
        if last.is_none_or(|last| now.duration_since(last) >= LOG_EVERY) {
            last = Some(now);
            tracing::info!("{}", line(report));
        }
    })
}

fn line(report: &StatusReport) -> String {
    let behind: u64 =
        report.sources.iter().map(|source| source.end.unwrap_or(source.next).saturating_sub(source.next)).sum();
    let bad: u64 = report.sources.iter().map(|source| source.counts.dead_letters).sum();
    format!(
        "epoch {}, {} events and {} rows of master data read, {behind} messages behind, {bad} dead letters, watermark {}",
        report.epoch,
        report.events_read(),
        report.master_data_read(),
        status::instant(report.watermark_us)
    )
}

#[expect(clippy::disallowed_methods, reason = "decides when a line is logged, and nothing else")]
fn now() -> Instant {
    Instant::now()
}

/// How often a line is logged where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(5);
