//! The tables as they must be after an epoch: from the logged ranges, by the laws of `accept`, and one run of each
//! job's SELECT.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{cast, filter_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

use crate::checkpoint::EpochRecord;
use crate::circuit::{ClosedKeys, Intake, positions};
use crate::decode::arrow::Origin;
use crate::decode::{Decoder, Format};
use crate::definition::pipeline::{Identity, Late, Pipeline, Retention, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{BatchTable, PlannedJob, compile_jobs, run_batch};
use crate::runtime::arrivals::{Closing, TimedRows, holds, timestamps};
use crate::runtime::clock::LateJudge;
use crate::runtime::driver::RunFailure;
use crate::runtime::engine::{
    compile_once, compile_when, conflicting, conflicting_rows, dead_letters, dead_row, engine_error, source_schemas,
};
use crate::runtime::inputs::{InputState, add_range, open_inputs};
use crate::runtime::outlets::logged_epochs;
use crate::runtime::report::SourceCounts;
use crate::runtime::system_tables::{Journal, LateRow};
use crate::source::TakenPart;
use crate::source::connect::Broker;
use crate::types::{DeadLetter, Micros, RawMessage, RawRows};

use super::accept::{FirstSeen, Sorted, table_rows};

/// The epochs from the first up to where it stands, read again and taken in.
pub struct Recomputation {
    pipeline: Arc<Pipeline>,
    jobs: Vec<PlannedJob>,
    records: Vec<EpochRecord>,
    /// How many of the records were taken in.
    done: usize,
    inputs: Vec<InputState>,
    sources: Vec<SourceRows>,
    journal: Journal,
}

/// What of a source was accepted so far.
struct SourceRows {
    decoder: Decoder,
    first_seen: Option<FirstSeen>,
    when: Option<Arc<dyn PhysicalExpr>>,
    judge: LateJudge,
    /// Of a source with `retain`, which decides for its rows.
    retained: Option<Retained>,
    counts: SourceCounts,
    accepted: Vec<RecordBatch>,
    /// Why it can't be read again, if so.
    lost: Option<String>,
}

/// Which rows of a source with `retain` are accepted, by the same code as in a run.
struct Retained {
    intake: Intake,
    closed: Option<(ClosedKeys, Arc<dyn PhysicalExpr>)>,
}

impl Retained {
    fn new(source: &Source, closes: Option<Arc<dyn PhysicalExpr>>) -> datafusion::error::Result<Option<Self>> {
        let Some(retain) = &source.retain else { return Ok(None) };
        let intake = Intake::new(&source.contract, &source.identity)?;
        Ok(Some(match (retain, closes) {
            (Retention::Once { key, .. }, Some(closes)) => {
                let keys = ClosedKeys::new(&source.contract.table_schema(), key.clone())?;
                Self { intake, closed: Some((keys, closes)) }
            }
            _ => Self { intake: intake.forgetting(), closed: None },
        }))
    }

    fn sort(
        &mut self,
        source: &Source,
        when: Option<&Arc<dyn PhysicalExpr>>,
        judge: &mut LateJudge,
        rows: &RecordBatch,
    ) -> Result<Sorted> {
        let after = source.retain.as_ref().and_then(Retention::after);
        let closing = self.closed.as_mut().map(|(keys, closes)| Closing { keys, closes, after });
        let mut arrivals = TimedRows::new(source, when, judge, closing, rows)?;
        let admitted = self.intake.admit_in_time(rows, &mut arrivals).map_err(engine_error)?;
        let others = admitted.duplicates.iter().chain(&admitted.conflicts).chain(&admitted.late);
        let others: BTreeSet<usize> = others.copied().collect();
        let first = (0_u32..).zip(0..rows.num_rows()).filter(|(_, row)| !others.contains(row));
        Ok(Sorted {
            first: first.map(|(position, _)| position).collect(),
            duplicates: admitted.duplicates.len(),
            conflicts: admitted.conflicts,
            late: admitted.late,
        })
    }
}

/// A table as it must be, or why that can't be told.
#[derive(Debug, Clone)]
pub struct Recomputed {
    /// The rows; in a job those with a null in the key are left out.
    pub table: Result<BatchTable, String>,
    /// How many rows were left out.
    pub null_keys: usize,
}

impl Recomputation {
    /// Before the first epoch. `broker` is needed where a source is a stream.
    ///
    /// # Errors
    /// All problems of the definition, or why the log or a source can't be opened.
    pub async fn open(pipeline: &Arc<Pipeline>, broker: Option<&Broker>, directory: &Path) -> Result<Self, RunFailure> {
        let jobs = compile_jobs(pipeline, &source_schemas(pipeline)).await?;
        let records = logged_epochs(pipeline, directory).await?;
        let mut inputs = open_inputs(pipeline, broker, directory).await?;
        let mut sources = Vec::new();
        for (position, source) in pipeline.sources.iter().enumerate() {
            let whole = |error| RunFailure::Failed(engine_error(error));
            sources.push(SourceRows {
                decoder: Decoder::new(Arc::clone(&source.contract), Format::Json),
                first_seen: FirstSeen::new(&source.contract, &source.identity).map_err(whole)?,
                when: compile_when(pipeline, position)?,
                judge: LateJudge::default(),
                retained: Retained::new(source, compile_once(pipeline, position)?).map_err(whole)?,
                counts: SourceCounts::default(),
                accepted: Vec::new(),
                lost: take_up(&mut inputs[position], &records).await?,
            });
        }
        let journal = Journal::new(&pipeline.name);
        Ok(Self { pipeline: Arc::clone(pipeline), jobs, records, done: 0, inputs, sources, journal })
    }

    /// Gives back what reading took of the sources.
    pub async fn close(&mut self) {
        futures::future::join_all(self.inputs.iter_mut().map(|input| input.source.close())).await;
    }

    /// The logged epochs.
    pub fn records(&self) -> &[EpochRecord] {
        &self.records
    }

    /// The jobs, each behind those that it reads.
    pub fn jobs(&self) -> &[PlannedJob] {
        &self.jobs
    }

    /// Reads on and takes in what the next epochs took, up to `epoch` and with it.
    ///
    /// # Errors
    /// What the environment makes impossible. A source that can't be read again is noted, not an error.
    pub async fn advance(&mut self, epoch: u64) -> Result<()> {
        while let Some(record) = self.records.get(self.done).filter(|record| record.epoch.0 <= epoch).cloned() {
            self.take_epoch(&record).await?;
            self.journal.epoch(record);
            self.done += 1;
        }
        Ok(())
    }

    async fn take_epoch(&mut self, record: &EpochRecord) -> Result<()> {
        let before: Vec<SourceCounts> = self.sources.iter().map(|source| source.counts).collect();
        for (position, before) in before.iter().enumerate() {
            let name = Arc::clone(&self.inputs[position].name);
            let (mut messages, mut rows) = (Vec::new(), Vec::new());
            for taken in record.inputs.iter().filter(|taken| *taken.source == *name) {
                if self.sources[position].lost.is_some() {
                    continue;
                }
                match self.inputs[position].read_range(taken.range, taken.anchor.as_ref()).await {
                    Ok((more_messages, more_rows)) => {
                        messages.extend(more_messages);
                        rows.extend(more_rows);
                    }
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        self.sources[position].lost = Some(error.chain());
                    }
                    Err(error) => return Err(error),
                }
            }
            self.take_in(position, &messages, &rows)?;
            let counts = self.sources[position].counts.since(before);
            self.journal.intake(record.epoch, &name, counts);
        }
        Ok(())
    }

    /// Decodes what an epoch took of a source, and accepts what `unique` and `late` let through.
    fn take_in(&mut self, position: usize, messages: &[RawMessage], typed: &[RawRows]) -> Result<()> {
        if messages.is_empty() && typed.is_empty() {
            return Ok(());
        }
        let definition = &self.pipeline.sources[position];
        let source = &mut self.sources[position];
        let mut letters = source.decode_all(&definition.name, messages, typed);
        let rows = source.decoder.finish();
        source.counts.read += rows.num_rows() as u64 + letters.len() as u64;
        let sorted = match (&mut source.retained, &mut source.first_seen) {
            (Some(retained), _) => retained.sort(definition, source.when.as_ref(), &mut source.judge, &rows)?,
            (None, Some(first_seen)) => first_seen.sort(&rows).map_err(engine_error)?,
            (None, None) => Sorted { first: (0..).take(rows.num_rows()).collect(), ..Sorted::default() },
        };
        let places = positions(&rows).map_err(engine_error)?;
        let conflicts: Vec<(i64, i64)> = sorted.conflicts.iter().filter_map(|&row| places.get(row).copied()).collect();
        letters.extend(conflicting(&definition.name, &source.decoder, conflicts.iter().copied(), messages));
        letters.extend(conflicting_rows(&definition.name, conflicts, typed));
        source.counts.duplicate += sorted.duplicates as u64;
        source.counts.dead_letters += letters.len() as u64;
        let keep = definition.dead_letters.keep;
        letters.into_iter().for_each(|letter| self.journal.dead_letter(letter, keep));
        let late = sorted.late;
        let first = take_record_batch(&rows, &UInt32Array::from(sorted.first)).map_err(arrow_error)?;
        let accepted = match source.retained {
            Some(_) => {
                self.note_late(position, &rows, &late)?;
                first
            }
            None => self.without_late(position, first)?,
        };
        let source = &mut self.sources[position];
        source.counts.accepted += accepted.num_rows() as u64;
        source.accepted.push(accepted);
        Ok(())
    }

    /// Takes note of the late rows of a source with `retain`.
    fn note_late(&mut self, position: usize, rows: &RecordBatch, late: &[usize]) -> Result<()> {
        let definition = &self.pipeline.sources[position];
        self.sources[position].counts.late += late.len() as u64;
        let event_time = definition.event_time.as_ref();
        let times = event_time.map(|event_time| timestamps(rows.column(event_time.column))).transpose()?;
        let places = positions(rows).map_err(engine_error)?;
        for &row in late.iter().filter(|_| definition.late != Late::Drop) {
            let Some(&(sequence, index)) = places.get(row) else { continue };
            let time = times.as_ref().filter(|times| times.is_valid(row)).map(|times| times.value(row));
            self.journal.late(LateRow { source: Arc::clone(&definition.name), sequence, index, event_time: time });
        }
        Ok(())
    }

    /// The rows that are not behind the watermark of their own source, or may be.
    fn without_late(&mut self, position: usize, rows: RecordBatch) -> Result<RecordBatch> {
        let definition = &self.pipeline.sources[position];
        let source = &mut self.sources[position];
        let Some(event_time) = &definition.event_time else { return Ok(rows) };
        let times = timestamps(rows.column(event_time.column))?;
        let received =
            rows.column_by_name("_received_at").ok_or_else(|| Error::internal("no column `_received_at`"))?;
        let received = timestamps(received)?;
        let counts = source.when.as_ref().map(|when| holds(when, &rows));
        let places = positions(&rows).map_err(engine_error)?;
        let mut kept = Vec::with_capacity(rows.num_rows());
        for (row, &(sequence, index)) in places.iter().enumerate() {
            let satisfies = counts.as_ref().is_none_or(|counts| counts.is_valid(row) && counts.value(row));
            let time = times.is_valid(row).then(|| times.value(row));
            let at = received.is_valid(row).then(|| received.value(row));
            let late = source.judge.judge(time, satisfies, at, event_time.lateness) && definition.late != Late::Apply;
            if late && definition.late == Late::Divert {
                self.journal.late(LateRow { source: Arc::clone(&definition.name), sequence, index, event_time: time });
            }
            source.counts.late += u64::from(late);
            kept.push(!late);
        }
        filter_record_batch(&rows, &BooleanArray::from(kept)).map_err(arrow_error)
    }

    /// The tables of that name as they must be now, with those that they need. Costs one run of each SELECT.
    ///
    /// # Errors
    /// `Internal`: a broken invariant.
    pub async fn tables(&self, wanted: &BTreeSet<Arc<str>>) -> Result<BTreeMap<Arc<str>, Recomputed>> {
        let needed = self.needed(wanted);
        let mut done: BTreeMap<Arc<str>, Recomputed> = BTreeMap::new();
        let lost = self.sources.iter().find_map(|source| source.lost.as_ref());
        for own in self.journal.readable()? {
            let name = Arc::clone(&own.name);
            let table = lost.map_or(Ok(own), |lost| Err(format!("a source can't be read again as it was: {lost}")));
            done.insert(name, Recomputed { table, null_keys: 0 });
        }
        for (definition, source) in self.pipeline.sources.iter().zip(&self.sources) {
            if needed.contains(&definition.name) {
                let recomputed = source.table(definition).map_err(engine_error)?;
                done.insert(Arc::clone(&definition.name), Recomputed { table: recomputed, null_keys: 0 });
            }
        }
        for (_, history) in self.pipeline.histories() {
            let reason = "a history follows from all epochs, and only the last one is computed anew".to_owned();
            done.insert(Arc::clone(&history.name), Recomputed { table: Err(reason), null_keys: 0 });
        }
        let watermark = self.done.checked_sub(1).and_then(|last| self.records.get(last)?.watermark_us);
        for job in self.jobs.iter().filter(|job| needed.contains(&job.name)) {
            let recomputed = self.run(job, &done, watermark).await?;
            done.insert(Arc::clone(&job.name), recomputed);
        }
        Ok(done)
    }

    /// The names of these tables and of all that they read.
    fn needed(&self, wanted: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
        let mut needed = wanted.clone();
        for job in self.jobs.iter().rev() {
            if needed.contains(&job.name) {
                needed.extend(job.reads.iter().map(|name| Arc::from(name.as_str())));
            }
        }
        needed
    }

    /// Runs a job's SELECT once over the tables that it reads.
    async fn run(
        &self,
        job: &PlannedJob,
        done: &BTreeMap<Arc<str>, Recomputed>,
        watermark: Option<Micros>,
    ) -> Result<Recomputed> {
        let unknown = |reason: String| Ok(Recomputed { table: Err(reason), null_keys: 0 });
        let mut tables = Vec::new();
        for name in &job.reads {
            match done.get(name.as_str()).map(|read| &read.table) {
                Some(Ok(table)) => tables.push(table.clone()),
                Some(Err(reason)) => return unknown(format!("it reads `{name}`: {reason}")),
                None => return unknown(format!("it reads `{name}`, which can't be recomputed")),
            }
        }
        let sql = self.pipeline.jobs.get(job.job).map_or("", |job| job.sql.text.as_str());
        let rows = match run_batch(&tables, sql, watermark).await {
            Ok((_, rows)) => rows,
            Err(error) => {
                let cause = match error.find_root() {
                    DataFusionError::ArrowError(cause, _) => cause.to_string().to_lowercase(),
                    cause => cause.strip_backtrace().lines().next().unwrap_or_default().to_owned(),
                };
                let told = "its SELECT fails as a whole, because it fails on some row";
                return unknown(format!("{told} ({cause}); see milepost.errors"));
            }
        };
        let mut batches = Vec::new();
        let mut null_keys = 0;
        for batch in rows {
            let whole = typed(&batch, &job.schema)?;
            let kept = without_null_keys(&whole, &job.key)?;
            null_keys += whole.num_rows() - kept.num_rows();
            batches.push(kept);
        }
        let schema = crate::plan::nullable(&job.schema);
        Ok(Recomputed { table: Ok(BatchTable { name: Arc::clone(&job.name), schema, batches }), null_keys })
    }
}

impl SourceRows {
    /// Decodes what an epoch took of the source; returns the dead letters of the bad events.
    fn decode_all(&mut self, name: &Arc<str>, messages: &[RawMessage], typed: &[RawRows]) -> Vec<DeadLetter> {
        let mut letters = Vec::new();
        let mut later = typed.iter().peekable();
        for message in messages {
            while let Some(rows) = later.next_if(|rows| rows.first < message.sequence) {
                letters.extend(self.decode_rows(name, rows));
            }
            let mut rejections = Vec::new();
            self.decoder.decode(message, &mut rejections);
            letters.extend(dead_letters(name, &self.decoder, message, rejections));
        }
        letters.extend(later.flat_map(|rows| self.decode_rows(name, rows)).collect::<Vec<_>>());
        letters
    }

    fn decode_rows(&mut self, name: &Arc<str>, rows: &RawRows) -> Vec<DeadLetter> {
        let mut rejected = Vec::new();
        let origin = Origin::Records { stream: &rows.stream, first: rows.first };
        self.decoder.decode_batch(&rows.rows, origin, &mut rejected);
        rejected.into_iter().map(|rejected| dead_row(name, rows, rejected.row, rejected.rejection)).collect()
    }

    fn table(
        &self,
        definition: &crate::definition::pipeline::Source,
    ) -> datafusion::error::Result<Result<BatchTable, String>> {
        if let Some(lost) = &self.lost {
            return Ok(Err(format!("it can't be read again as it was: {lost}")));
        }
        let schema = definition.contract.table_schema();
        let batches = match &definition.identity {
            Identity::Append { .. } => self.accepted.clone(),
            identity @ Identity::Upsert { .. } => table_rows(&schema, identity, &self.accepted)?,
        };
        Ok(Ok(BatchTable { name: Arc::clone(&definition.name), schema, batches }))
    }
}

/// The last epoch that is in the log of a state directory; 0 where none is.
///
/// # Errors
/// `Unavailable`: where the log lies; `Corrupt`: what is there.
pub async fn last_logged(pipeline: &Pipeline, directory: &Path) -> Result<u64> {
    Ok(logged_epochs(pipeline, directory).await?.last().map_or(0, |record| record.epoch.0))
}

/// Brings an input to where the log begins; what of it is no longer as it was.
async fn take_up(input: &mut InputState, records: &[EpochRecord]) -> Result<Option<String>> {
    let mut parts: Vec<TakenPart> = Vec::new();
    for range in records.iter().flat_map(|record| &record.inputs).filter(|range| *range.source == *input.name) {
        add_range(&mut parts, &range.identity, range.range, range.anchor.clone());
    }
    match input.source.resume(&parts).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Some(error.chain())),
        resumed => resumed,
    }
}

/// A result's columns with the types that the job's table has.
fn typed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<ArrayRef>, _>>().map_err(arrow_error)?;
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(crate::plan::nullable(schema), columns, &options).map_err(arrow_error)
}

fn without_null_keys(batch: &RecordBatch, key: &[usize]) -> Result<RecordBatch> {
    let columns: Vec<&ArrayRef> = key.iter().filter_map(|&column| batch.columns().get(column)).collect();
    let whole = |row: usize| columns.iter().all(|column| column.is_valid(row));
    if (0..batch.num_rows()).all(whole) {
        return Ok(batch.clone());
    }
    let kept: BooleanArray = (0..batch.num_rows()).map(|row| Some(whole(row))).collect();
    filter_record_batch(batch, &kept).map_err(arrow_error)
}

fn arrow_error(error: arrow::error::ArrowError) -> Error {
    Error::caused(ErrorKind::Internal, "recomputing a table", error)
}
