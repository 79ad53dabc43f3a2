//! What readers find: tables by `query`, Parquet tables by their `_current.json`, change streams by their messages.

use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;

use crate::definition::pipeline::{Pipeline, SinkTarget, TablePlace};
use crate::error::{Error, ErrorKind};
use crate::runtime::verify::ChangeHistory;
use crate::sink::history::read_changes;
use crate::sink::table::{ObjectTable, TableStore};
use crate::source::connect::Broker;

use super::super::Failure;
use super::super::options::Common;
use super::super::query::ask_or_read;

/// Rows that were found, as of an epoch.
pub(super) struct Found {
    /// The job or source.
    pub(super) table: Arc<str>,
    /// Where, for a person.
    pub(super) place: String,
    /// The epoch that they are said to be of; 0 where nothing is there.
    pub(super) epoch: u64,
    /// The rows, or what is wrong with them.
    pub(super) rows: Result<Vec<RecordBatch>, String>,
}

/// A change stream of a job.
pub(super) struct Stream {
    pub(super) job: Arc<str>,
    pub(super) stream: String,
    subject: String,
    pub(super) key: Vec<String>,
    /// What it says up to the epoch until which it is looked at; none where there is no such stream.
    pub(super) history: Option<ChangeHistory>,
}

/// A table as `query` shows it; its rows and the epoch come in one answer, so that they belong together.
pub(super) async fn by_query(pipeline: &Pipeline, common: &Common, table: &Arc<str>) -> Result<Found, Failure> {
    let name = if table.contains('.') { table.to_string() } else { format!("\"{table}\"") };
    let sql = format!(
        "SELECT progress.epoch AS \"{EPOCH}\", found.* FROM milepost.progress AS progress \
         LEFT JOIN (SELECT true AS \"{THERE}\", * FROM {name}) AS found ON true"
    );
    let (_, batches) = ask_or_read(pipeline, common, &sql).await?;
    let (mut epoch, mut rows) = (0, Vec::new());
    for batch in &batches {
        let (Some(epochs), Some(there)) = (
            batch.columns().first().and_then(|column| column.as_primitive_opt::<Int64Type>()),
            batch.columns().get(1).and_then(|column| column.as_boolean_opt()),
        ) else {
            return Err(Error::new(ErrorKind::Internal, "a query gives other columns than it was asked for").into());
        };
        epoch = epochs.iter().flatten().last().and_then(|found| u64::try_from(found).ok()).unwrap_or(epoch);
        let own: Vec<usize> = (2..batch.num_columns()).collect();
        let whole = batch.project(&own).and_then(|own| filter_record_batch(&own, there));
        rows.push(whole.map_err(|error| Error::caused(ErrorKind::Internal, "taking rows out of an answer", error))?);
    }
    Ok(Found { table: Arc::clone(table), place: "query".to_owned(), epoch, rows: Ok(rows) })
}

/// The current version of each Parquet table of these jobs. One that is damaged is found so.
pub(super) async fn parquet(
    pipeline: &Pipeline,
    home: &Path,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Found>, Error> {
    let mut all = Vec::new();
    for sink in &pipeline.sinks {
        let SinkTarget::Parquet { place, .. } = &sink.target else { continue };
        let Some(job) = pipeline.jobs.get(sink.job).filter(|job| wanted(&job.name)) else { continue };
        let read = match place {
            TablePlace::Home(path) => local(home, path),
            TablePlace::Store(url) => match ObjectTable::open(url)?.read().await {
                Ok(found) => Ok(found.map(|(version, rows)| (version.meta.stamp.epoch.0, Ok(rows)))),
                Err(error) => Err(error),
            },
        };
        let (epoch, rows) = match read {
            Ok(Some(found)) => found,
            Ok(None) => (0, Err("no version of it was written yet".to_owned())),
            Err(error) if error.kind() == ErrorKind::Corrupt => (0, Err(error.chain())),
            Err(error) => return Err(error),
        };
        all.push(Found { table: Arc::clone(&job.name), place: format!("Parquet {place}"), epoch, rows });
    }
    Ok(all)
}

type Version = (u64, Result<Vec<RecordBatch>, String>);

fn local(home: &Path, path: &Path) -> Result<Option<Version>, Error> {
    let Some(version) = TableStore::open(home, path)?.current()? else { return Ok(None) };
    let rows = match version.read() {
        Err(error) if error.kind() == ErrorKind::Corrupt => Err(error.chain()),
        rows => Ok(rows?),
    };
    Ok(Some((version.meta.stamp.epoch.0, rows)))
}

/// The change streams of these jobs, not read yet.
pub(super) fn streams(pipeline: &Pipeline, wanted: &dyn Fn(&str) -> bool) -> Vec<Stream> {
    let stream = |sink: &crate::definition::pipeline::Sink| {
        let SinkTarget::JetStream { stream, subject } = &sink.target else { return None };
        let job = pipeline.jobs.get(sink.job).filter(|job| wanted(&job.name))?;
        Some(Stream {
            job: Arc::clone(&job.name),
            stream: stream.clone(),
            subject: subject.clone(),
            key: job.key.iter().map(|(column, _)| column.clone()).collect(),
            history: None,
        })
    };
    pipeline.sinks.iter().filter_map(stream).collect()
}

impl Stream {
    /// Reads all messages, leaving out those of epochs behind `until`.
    pub(super) async fn read(&mut self, pipeline: &str, broker: &Broker, until: u64) -> Result<(), Error> {
        let mut history = ChangeHistory::new(pipeline, &self.job, &self.subject, &self.key, until)?;
        let filter = history.filter();
        let mut take = |subject: &str, sequence: u64, body: &[u8]| history.take(subject, sequence, body);
        let read = read_changes(broker.jetstream(), &self.stream, &filter, &mut take).await;
        let exists = read.map_err(|error| broker.explained(error))?;
        self.history = exists.then_some(history);
        Ok(())
    }

    pub(super) fn place(&self) -> String {
        format!("stream {}", self.stream)
    }
}

/// Column names that no job has.
const EPOCH: &str = "_milepost_verify_epoch";
const THERE: &str = "_milepost_verify_there";
