//! Where results leave the process: Parquet tables, and what `query` reads when nothing runs; and where commits lie.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use futures::lock::Mutex;

use crate::checkpoint::{EpochRecord, History, LogStore, Logged, ObjectLog};
use crate::circuit::CompiledJob;
use crate::definition::pipeline::{Pipeline, SinkTarget, TablePlace};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::BatchTable;
use crate::sink::Stamp;
use crate::sink::table::{ObjectTable, Publication, Published, Scope, TableMeta, TableStore, unpartitioned};
use crate::state::{GroupKey, Partition};
use crate::store;
use crate::types::Micros;

use super::engine::Engine;

/// A Parquet table of a job.
pub(crate) struct TableOutlet {
    /// The job's position in the circuit.
    pub(crate) job: usize,
    /// Whether its rows changed since the last version.
    pub(crate) dirty: bool,
    /// The sink's position in the pipeline.
    sink: usize,
    every: Duration,
    written: Option<Instant>,
    tidied: Option<Instant>,
    partition_by: Vec<String>,
    /// The partitions that changed since the last version.
    touched: BTreeSet<GroupKey>,
    /// Whether the next version needs all partitions: the first one does.
    whole: bool,
    writer: Arc<Mutex<TableWriter>>,
}

/// Where a table's versions are written.
enum TableWriter {
    Local(TableStore),
    Object(Box<ObjectTable>),
}

/// The Parquet tables of a pipeline; checks that local paths are free.
pub(crate) fn open_tables(pipeline: &Pipeline, jobs: &[CompiledJob], home: &Path) -> Result<Vec<TableOutlet>> {
    let mut outlets = Vec::new();
    for (position, sink) in pipeline.sinks.iter().enumerate() {
        let SinkTarget::Parquet { place, partition_by, every } = &sink.target else { continue };
        let writer = match place {
            TablePlace::Home(path) => TableWriter::Local(TableStore::open(home, path)?),
            TablePlace::Store(url) => TableWriter::Object(Box::new(ObjectTable::open(url)?)),
        };
        outlets.push(TableOutlet {
            job: compiled(jobs, sink.job)?.0,
            dirty: true,
            sink: position,
            every: *every,
            written: None,
            tidied: None,
            partition_by: partition_by.iter().map(|(column, _)| column.clone()).collect(),
            touched: BTreeSet::new(),
            whole: true,
            writer: Arc::new(Mutex::new(writer)),
        });
    }
    Ok(outlets)
}

impl TableOutlet {
    /// Whether a new version is due at `now`.
    pub(crate) fn due(&self, now: Instant) -> bool {
        self.dirty && self.written.is_none_or(|written| now.duration_since(written) >= self.every)
    }

    /// Notes that a version was written at `now`.
    pub(crate) fn mark_written(&mut self, now: Instant) {
        self.dirty = false;
        self.whole = false;
        self.touched.clear();
        self.written = Some(now);
        self.tidied = Some(now);
    }

    /// Its writer, if nothing was written or collected for a while: then old versions may have come of age. Says so once a
    /// while.
    pub(crate) fn tidy(&mut self, now: Instant) -> Option<Tidying> {
        let last = self.tidied?;
        if now.duration_since(last) < TIDY_EVERY {
            return None;
        }
        self.tidied = Some(now);
        Some(Tidying(Arc::clone(&self.writer)))
    }

    /// Notes that the next version needs all partitions.
    pub(crate) fn need_whole(&mut self) {
        self.whole = true;
    }

    /// What has to be written, to be written elsewhere: what changed since the last version was written.
    pub(crate) fn version(&mut self, pipeline: &str, engine: &mut Engine) -> Result<PendingVersion> {
        let (partitions, scope) = if self.partition_by.is_empty() {
            (vec![unpartitioned(engine.rows_of(self.job)?)], Scope::Whole)
        } else {
            self.touched.extend(engine.take_touched(self.sink));
            let which = (!self.whole).then_some(&self.touched);
            let scope = if self.whole { Scope::Whole } else { Scope::Touched };
            (engine.partitions(self.sink, which)?, scope)
        };
        let stamp = engine.stamp();
        let job = engine.circuit().jobs().get(self.job).ok_or_else(|| Error::internal("no such job"))?;
        Ok(PendingVersion {
            writer: Arc::clone(&self.writer),
            schema: Arc::clone(&job.schema),
            key: key_names(job),
            partition_by: self.partition_by.clone(),
            meta: TableMeta { pipeline: pipeline.to_owned(), job: job.name.to_string(), stamp },
            partitions,
            scope,
        })
    }
}

/// How long a table rests before it is looked after.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// A table that rests, whose old versions are to be collected.
pub(crate) struct Tidying(Arc<Mutex<TableWriter>>);

impl Tidying {
    /// Collects what is old at `now`; blocks between its waits.
    pub(crate) async fn tidy(self, now: Micros) {
        match &mut *self.0.lock().await {
            TableWriter::Local(store) => store.tidy(now),
            TableWriter::Object(table) => table.tidy(now).await,
        }
    }
}

/// A table version that is yet to be written.
pub(crate) struct PendingVersion {
    writer: Arc<Mutex<TableWriter>>,
    schema: SchemaRef,
    key: Vec<String>,
    partition_by: Vec<String>,
    meta: TableMeta,
    partitions: Vec<Partition>,
    scope: Scope,
}

impl PendingVersion {
    /// Writes the version and makes it the table's current one. Blocks between its waits: rows are sorted and encoded.
    pub(crate) async fn write(self, now: Micros) -> Result<Published<()>> {
        let publication = Publication {
            schema: &self.schema,
            key: &self.key,
            partition_by: &self.partition_by,
            meta: &self.meta,
            partitions: &self.partitions,
            scope: self.scope,
        };
        let whole_needed = match &mut *self.writer.lock().await {
            TableWriter::Local(store) => store.publish_partitions(&publication, now)? == Published::WholeNeeded,
            TableWriter::Object(table) => table.publish_partitions(&publication, now).await? == Published::WholeNeeded,
        };
        Ok(if whole_needed { Published::WholeNeeded } else { Published::Version(()) })
    }
}

/// Where a pipeline's commits lie, for people.
pub(crate) fn state_place(pipeline: &Pipeline, directory: &Path) -> String {
    match &pipeline.state {
        None => directory.display().to_string(),
        Some(url) => format!("{}/{}", store::shown(url).trim_end_matches('/'), pipeline.name),
    }
}

/// The epochs that a pipeline's log holds now, the last generation's; none where there is no log. Nothing is changed.
pub(crate) async fn logged_epochs(pipeline: &Pipeline, directory: &Path) -> Result<Vec<EpochRecord>> {
    if pipeline.state.is_none() && !directory.exists() {
        return Ok(Vec::new());
    }
    let log = state_log(pipeline, directory)?;
    let course = History::read(&log).await?.course(&log).await?;
    Ok(course.into_iter().filter_map(Logged::into_epoch).collect())
}

fn state_log(pipeline: &Pipeline, directory: &Path) -> Result<ObjectLog> {
    let place = state_place(pipeline, directory);
    Ok(match &pipeline.state {
        None => ObjectLog::new(store::folder(directory)?, Default::default(), place),
        Some(url) => {
            let (opened, prefix) = store::open(url)?;
            ObjectLog::new(opened, prefix.join(pipeline.name.as_str()), place)
        }
    })
}

/// Where a pipeline's commits lie, once the store has shown that it keeps the condition that they rest on. `directory` is there.
pub(crate) async fn open_state(pipeline: &Pipeline, directory: &Path, nonce: &str) -> Result<Arc<dyn LogStore>> {
    let log = state_log(pipeline, directory)?;
    log.probe(nonce).await?;
    Ok(Arc::new(log))
}

/// The state directory of a pipeline.
pub fn state_directory(home: &Path, pipeline: &str) -> PathBuf {
    home.join(".state").join(pipeline)
}

/// Writes what `query` reads when nothing runs: every table, as Parquet, under the state directory; blocks. Columns that
/// Parquet can't hold (a source's durations) are written as text.
pub(crate) fn leave_tables(
    directory: &Path,
    pipeline: &str,
    tables: Vec<BatchTable>,
    stamp: Stamp,
    now: Micros,
) -> Result<()> {
    for table in tables {
        let (schema, rows) = storable(&table)?;
        let meta = TableMeta { pipeline: pipeline.to_owned(), job: table.name.to_string(), stamp };
        let mut store = TableStore::open(directory, &left_path(&table.name))?;
        store.publish(&rows, &schema, &[], &meta, now)?;
    }
    Ok(())
}

/// Reads back what a run left of these tables; a table that was never written is left out.
pub fn left_tables(directory: &Path, names: &[Arc<str>]) -> Result<Vec<BatchTable>> {
    let mut tables = Vec::new();
    for name in names {
        let store = TableStore::open(directory, &left_path(name))?;
        if let Some(version) = store.current()? {
            tables.push(BatchTable { name: Arc::clone(name), schema: version.schema, batches: store.read()? });
        }
    }
    Ok(tables)
}

fn left_path(name: &str) -> PathBuf {
    Path::new("tables").join(name)
}

fn storable(table: &BatchTable) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let unheld: Vec<String> =
        crate::sink::table::unsupported(&table.schema).into_iter().map(|found| found.column).collect();
    let field = |field: &Arc<Field>| {
        let kind = if unheld.contains(field.name()) { DataType::Utf8 } else { field.data_type().clone() };
        Field::new(field.name(), kind, true)
    };
    let schema = Arc::new(Schema::new(table.schema.fields().iter().map(field).collect::<Vec<_>>()));
    let convert = |batch: &RecordBatch| {
        let columns = batch
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| arrow::compute::cast(column, field.data_type()))
            .collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&schema), columns)
    };
    let rows = table.batches.iter().map(convert).collect::<Result<Vec<_>, _>>();
    let rows = rows.map_err(|error| Error::caused(ErrorKind::Internal, format!("writing `{}`", table.name), error))?;
    Ok((schema, rows))
}

/// The names of a job's key columns.
pub(crate) fn key_names(job: &CompiledJob) -> Vec<String> {
    job.key.iter().map(|&column| job.schema.field(column).name().clone()).collect()
}

fn compiled(jobs: &[CompiledJob], job: usize) -> Result<(usize, &CompiledJob)> {
    let found = jobs.iter().enumerate().find(|(_, compiled)| compiled.job == job);
    found.ok_or_else(|| Error::internal("a sink's job was not compiled"))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn outlet(home: &TempDir, every: Duration) -> TableOutlet {
        let store = TableStore::open(home.path(), Path::new("t")).expect("a free path");
        TableOutlet {
            job: 0,
            dirty: true,
            sink: 0,
            every,
            written: None,
            tidied: None,
            partition_by: Vec::new(),
            touched: BTreeSet::new(),
            whole: true,
            writer: Arc::new(Mutex::new(TableWriter::Local(store))),
        }
    }

    #[test]
    fn a_version_is_due_at_once_and_then_every_so_often_if_rows_changed() {
        let home = TempDir::new().expect("a directory");
        let (mut outlet, start) = (outlet(&home, Duration::from_secs(5)), some_time());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(outlet.due(start));
        outlet.mark_written(start);
        assert!(!outlet.due(after(100)));
        outlet.dirty = true;
        assert!(!outlet.due(after(4)));
        assert!(outlet.due(after(5)));
    }

    #[test]
    fn a_table_is_looked_after_once_a_minute_and_not_before_its_first_version() {
        let home = TempDir::new().expect("a directory");
        let (mut outlet, start) = (outlet(&home, Duration::ZERO), some_time());
        let mut tidied = |seconds| outlet.tidy(start + Duration::from_secs(seconds)).is_some();
        assert!(!tidied(1_000));
        outlet.mark_written(start);
        let mut tidied = |seconds| outlet.tidy(start + Duration::from_secs(seconds)).is_some();
        assert_eq!([59, 60, 61, 119, 120].map(&mut tidied), [false, true, false, false, true]);
    }

    #[expect(clippy::disallowed_methods, reason = "an instant can't be made otherwise")]
    fn some_time() -> Instant {
        Instant::now()
    }
}
