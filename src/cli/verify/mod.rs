//! `milepost verify`: recomputes every table in batch from the sources, and compares it with what readers find.

mod found;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::definition::pipeline::{Identity, Input, NatsSettings, Pipeline};
use crate::diagnostic::{Diagnostics, suggest};
use crate::error::{Error, ErrorKind};
use crate::plan::SystemTable;
use crate::runtime::left_status;
use crate::runtime::outlets::state_directory;
use crate::runtime::socket::{Reply, Request, ask};
use crate::runtime::verify::{Difference, Recomputation, Recomputed, compare, last_logged};
use crate::source::connect::{Broker, connect_with};

use super::options::{Common, ReportFormat};
use super::query::nothing_left;
use super::run::given;
use super::{Failure, Outcome, output, prepared};

use found::{Found, Stream};
use report::{Line, Verdict};

/// What `verify` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Only this job: its table, its Parquet tables and its change streams; repeatable
    #[arg(long = "job", value_name = "NAME")]
    jobs: Vec<String>,
    /// The broker, instead of the pipeline's `nats.url` [default: nats://127.0.0.1:4222]
    #[arg(long, value_name = "URL", env = "NATS_URL", hide_env_values = true)]
    nats: Option<String>,
    /// A credentials file for it, instead of what the pipeline's `nats` names
    #[arg(long, value_name = "FILE", env = "NATS_CREDS")]
    nats_creds: Option<PathBuf>,
    /// Leave the change streams out
    #[arg(long)]
    no_publish: bool,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// Compares, and prints how it came out.
pub(crate) async fn verify(arguments: &Arguments) -> Outcome {
    let pipeline = prepared(&arguments.common)?;
    check_names(&pipeline, &arguments.jobs)?;
    let lines = compared(arguments, &pipeline).await?;
    match arguments.format {
        ReportFormat::Table => output::print_bytes(report::text(&lines).as_bytes())?,
        ReportFormat::Json => output::print_json(&serde_json::json!({
            "pipeline": pipeline.name,
            "same": lines.iter().all(|line| line.verdict == Verdict::Same),
            "compared": lines,
        }))?,
    }
    if lines.iter().all(|line| line.verdict == Verdict::Same) { Ok(()) } else { Err(Failure::No) }
}

fn check_names(pipeline: &Pipeline, jobs: &[String]) -> Result<(), Error> {
    let known = |name: &&String| pipeline.jobs.iter().any(|job| *job.name == ***name);
    match jobs.iter().find(|name| !known(name)) {
        Some(name) => {
            let help = suggest(name, pipeline.jobs.iter().map(|job| &*job.name));
            Err(Error::new(ErrorKind::Definition, format!("there is no job `{name}`; {help}")))
        }
        None => Ok(()),
    }
}

/// Takes what readers find first, then recomputes up to the epochs that it is of.
async fn compared(arguments: &Arguments, pipeline: &Arc<Pipeline>) -> Result<Vec<Line>, Failure> {
    let common = &arguments.common;
    let directory = state_directory(&common.home, &pipeline.name);
    let running = matches!(ask(&directory, &Request::Status).await?, Some(Reply::Status(_)));
    if !running && left_status(&directory)?.is_none() {
        return Err(nothing_left(pipeline, common));
    }
    let wanted = |job: &str| arguments.jobs.is_empty() || arguments.jobs.iter().any(|name| name == job);
    let mut streams = if arguments.no_publish { Vec::new() } else { found::streams(pipeline, &wanted) };
    let nats = pipeline.nats.clone().overridden(given(arguments.nats.clone()), given(arguments.nats_creds.clone()));
    let reads_streams = pipeline.sources.iter().any(|source| matches!(source.input, Input::JetStream { .. }));
    let broker = if reads_streams || !streams.is_empty() { Some(connected(&nats).await?) } else { None };

    let mut tables = Vec::new();
    for name in table_names(pipeline, &arguments.jobs) {
        tables.push(found::by_query(pipeline, common, &name).await?);
    }
    tables.extend(found::parquet(pipeline, &common.home, &wanted).await?);
    let newest = tables.iter().map(|found| found.epoch).max().unwrap_or(0);
    wait_until_logged(pipeline, &directory, newest, running).await?;

    let explained = |failure: Failure| match (failure, &broker) {
        (Failure::Failed(error), Some(broker)) => Failure::Failed(broker.explained(error)),
        (failure, _) => failure,
    };
    let opened = Box::pin(Recomputation::open(pipeline, broker.as_ref(), &directory)).await;
    let mut recomputation = opened.map_err(|failure| explained(failure.into()))?;
    let last = recomputation.records().last().map_or(0, |record| record.epoch.0);
    if let Some(broker) = &broker {
        for stream in &mut streams {
            stream.read(&pipeline.name, broker, last).await?;
        }
    }
    let lines = Box::pin(along_the_epochs(&mut recomputation, &tables, &streams, last, running)).await;
    let lines = lines.map_err(|error| explained(error.into()));
    recomputation.close().await;
    let (mut lines, expected) = lines?;
    if let Some(broker) = broker.as_ref().filter(|_| running) {
        await_publication(&pipeline.name, broker, &mut streams, &mut lines, &expected, last).await?;
    }
    Ok(lines)
}

async fn connected(nats: &NatsSettings) -> Result<Broker, Failure> {
    if nats.unset.is_empty() {
        return Ok(connect_with(nats).await?);
    }
    Err(Diagnostics(nats.unset.iter().map(|unset| unset.problem.clone()).collect()).into())
}

/// The tables that `query` shows and that can be recomputed: all, or the jobs that were asked for.
fn table_names(pipeline: &Pipeline, jobs: &[String]) -> Vec<Arc<str>> {
    if !jobs.is_empty() {
        return jobs.iter().map(|name| Arc::from(name.as_str())).collect();
    }
    let own = [SystemTable::DeadLetters, SystemTable::Late, SystemTable::Intake].map(|table| Arc::from(table.name()));
    let upserts = pipeline.sources.iter().filter(|source| matches!(source.identity, Identity::Upsert { .. }));
    let sources = upserts.map(|source| Arc::clone(&source.name));
    pipeline.jobs.iter().map(|job| Arc::clone(&job.name)).chain(sources).chain(own).collect()
}

/// A running process shows an epoch a moment before it is in the log.
async fn wait_until_logged(pipeline: &Pipeline, directory: &Path, epoch: u64, running: bool) -> Result<(), Error> {
    for _ in 0..ATTEMPTS_MAX {
        if !running || last_logged(pipeline, directory).await? >= epoch {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// The tables that the change streams must show after the last epoch.
type Expected = BTreeMap<Arc<str>, Recomputed>;

/// Goes through the epochs once, and compares at each what was found of it.
async fn along_the_epochs(
    recomputation: &mut Recomputation,
    tables: &[Found],
    streams: &[Stream],
    last: u64,
    running: bool,
) -> Result<(Vec<Line>, Expected), Error> {
    let mut stops: BTreeSet<u64> = tables.iter().map(|found| found.epoch).collect();
    let earlier = |stream: &Stream| stream.history.as_ref().map(|history| history.newest_epoch());
    if !streams.is_empty() {
        stops.insert(last);
        stops.extend(streams.iter().filter(|_| running).filter_map(earlier));
    }
    let mut table_lines: Vec<Option<Line>> = tables.iter().map(|_| None).collect();
    let mut stream_lines: Vec<Option<Line>> = streams.iter().map(|_| None).collect();
    let mut expected = Expected::new();
    for &epoch in &stops {
        recomputation.advance(epoch).await?;
        let here = tables.iter().filter(|found| found.epoch == epoch && found.rows.is_ok());
        let of_streams = streams.iter().filter(|stream| epoch == last || earlier(stream) == Some(epoch));
        let wanted = here.map(|found| &found.table).chain(of_streams.map(|stream| &stream.job)).cloned().collect();
        let recomputed = recomputation.tables(&wanted).await?;
        for (line, found) in table_lines.iter_mut().zip(tables).filter(|(_, found)| found.epoch == epoch) {
            *line = Some(table_line(found, &recomputed, last));
        }
        for (line, stream) in stream_lines.iter_mut().zip(streams) {
            // What is known to be right as of an earlier epoch may be on its way since.
            let is_due = epoch == last || earlier(stream) == Some(epoch);
            if is_due && line.as_ref().is_none_or(|line| line.verdict != Verdict::Same) {
                *line = Some(stream_line(stream, &recomputed, epoch)?);
            }
        }
        if epoch == last {
            expected = recomputed;
        }
    }
    Ok((table_lines.into_iter().chain(stream_lines).flatten().collect(), expected))
}

fn table_line(found: &Found, recomputed: &BTreeMap<Arc<str>, Recomputed>, last: u64) -> Line {
    let (name, place, epoch) = (&*found.table, found.place.clone(), found.epoch);
    let rows = match &found.rows {
        Ok(rows) => rows,
        Err(wrong) => return Line::broken(name, place, epoch, wrong.clone()),
    };
    if epoch > last {
        return Line::unknown(name, place, epoch, format!("the epoch log ends at {last}"));
    }
    let Some(should) = recomputed.get(name) else {
        return Line::unknown(name, place, epoch, "it can't be recomputed".to_owned());
    };
    let should_be = match &should.table {
        Ok(table) => table,
        Err(why) => return Line::unknown(name, place, epoch, why.clone()),
    };
    let mut line = match compare(&should_be.batches, rows) {
        Ok(difference) => Line::of(name, place, epoch, &difference),
        Err(error) => return Line::unknown(name, place, epoch, error.chain()),
    };
    if should.null_keys > 0 {
        line.notes.push(format!("{} rows with a null in the key stand in neither", should.null_keys));
    }
    line
}

fn stream_line(stream: &Stream, recomputed: &BTreeMap<Arc<str>, Recomputed>, epoch: u64) -> Result<Line, Error> {
    let (name, place) = (&*stream.job, stream.place());
    let should_be = match recomputed.get(name).map(|should| &should.table) {
        Some(Ok(table)) => table,
        Some(Err(why)) => return Ok(Line::unknown(name, place, epoch, why.clone())),
        None => return Ok(Line::unknown(name, place, epoch, "it can't be recomputed".to_owned())),
    };
    let Some(history) = &stream.history else {
        let rows = should_be.batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let difference = Difference { expected: rows, missing: rows, ..Difference::default() };
        let mut line = Line::of(name, place, epoch, &difference);
        line.notes.push("there is no such stream".to_owned());
        return Ok(line);
    };
    let (rows, ambiguous) = history.by_subject(should_be, &stream.key)?;
    let mut line = Line::of(name, place, epoch, &history.compare(&rows, &ambiguous));
    if !ambiguous.is_empty() {
        let keys = ambiguous.len();
        line.notes
            .push(format!("not compared: {keys} keys that stand for several rows, of which nothing is published"));
    }
    let (count, problems) = history.problems();
    if count > 0 {
        line.verdict = Verdict::Differs;
        line.notes.push(format!("{count} messages are not as the revisions of their keys must be"));
        line.notes.extend(problems.iter().cloned());
    }
    Ok(line)
}

/// What an epoch changed is published after it is logged: a running process is given a while to do so.
async fn await_publication(
    pipeline: &str,
    broker: &Broker,
    streams: &mut [Stream],
    lines: &mut [Line],
    expected: &Expected,
    last: u64,
) -> Result<(), Failure> {
    for stream in streams {
        let place = stream.place();
        let of_stream = |line: &&mut Line| line.table == *stream.job && line.place == place;
        let Some(line) = lines.iter_mut().find(of_stream) else { continue };
        for _ in 0..ATTEMPTS_MAX {
            if line.verdict != Verdict::Differs {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            stream.read(pipeline, broker, last).await?;
            *line = stream_line(stream, expected, last)?;
        }
    }
    Ok(())
}

/// How often a running process is looked at again.
const ATTEMPTS_MAX: usize = 20;
/// How long in between.
const PAUSE: Duration = Duration::from_millis(500);
