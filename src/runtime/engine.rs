//! Everything that an epoch does inside the process: decode, take in, keep time, step the circuit, bring tables up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use datafusion::common::cast::as_boolean_array;
use datafusion::physical_expr::PhysicalExpr;

use crate::checkpoint::EpochRecord;
use crate::circuit::{Circuit, ErrorRow, Intake, compile, positions};
use crate::decode::arrow::{Origin, RejectedRow, row_message};
use crate::decode::{Decoder, Format};
use crate::definition::pipeline::{Late, Pipeline, SinkTarget};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{BatchTable, SystemTable, TableSchemas, plan_jobs, row_predicate};
use crate::sink::{KeyedChanges, Stamp};
use crate::state::{Delta, GroupKey, Partition, Table};
use crate::types::{DeadLetter, Epoch, Micros, RawMessage, RawRows, Rejection};

use super::budget::{BudgetWindow, overdraft};
use super::clock::{Heard, LateJudge, PipelineClock};
use super::report::{JobReport, SourceCounts};
use super::sink_check::check_sinks;
use super::system_tables::{FailedRow, Journal, LateRow, Mark};

/// A pipeline in memory: the circuit, what the sources' rows decided so far, and every table.
pub struct Engine {
    pipeline: Arc<Pipeline>,
    pub(super) circuit: Circuit,
    pub(super) sources: Vec<SourceState>,
    pub(super) tables: Vec<Table>,
    partitionings: Partitionings,
    pub(super) ambiguous: Vec<BTreeSet<String>>,
    pub(super) clock: PipelineClock,
    pub(super) journal: Journal,
    /// Those of Milepost's own tables that jobs read: the circuit's inputs behind the sources.
    own_inputs: Vec<SystemTable>,
    pub(super) errors: BTreeMap<(usize, String, String, String), i64>,
}

pub(super) struct SourceState {
    decoder: Decoder,
    pub(super) intake: Intake,
    pub(super) counts: SourceCounts,
    when: Option<Arc<dyn PhysicalExpr>>,
    pub(super) judge: LateJudge,
    /// How many of the last events were bad.
    pub(super) window: BudgetWindow,
}

/// One micro-batch on its way in.
#[derive(Debug, Default)]
pub struct EpochInput {
    /// The messages of each source, in the pipeline's order; may be shorter.
    pub messages: Vec<Vec<RawMessage>>,
    /// Records with types of each source, likewise; messages and rows are taken in the order of their sequences.
    pub rows: Vec<Vec<RawRows>>,
    /// The clock of a re-run epoch or a tick.
    pub clock: Option<Micros>,
    /// Whether no source will give more.
    pub ended: bool,
    /// Raises the watermark to here: the last tick of a finished history.
    pub close_at: Option<Micros>,
}

/// What an epoch changed.
#[derive(Debug)]
pub struct EpochOutput {
    /// The epoch, its clock and watermark.
    pub stamp: Stamp,
    /// The changes of the jobs that were asked for, by position among the compiled jobs.
    pub changes: Vec<(usize, KeyedChanges)>,
    /// The jobs whose tables changed, by position among the compiled jobs.
    pub changed: Vec<usize>,
}

/// Of each sink with partitions, by its position in the pipeline: its job's position, and which partitioning of the job's
/// table it is.
type Partitionings = BTreeMap<usize, (usize, usize)>;

/// Keyed changes by position among the compiled jobs.
type JobChanges = Vec<(usize, KeyedChanges)>;

/// Compiles a pipeline down to its circuit: everything that `check` checks.
///
/// # Errors
/// All problems of the definition.
pub async fn build_circuit(pipeline: &Pipeline) -> Result<Circuit, Diagnostics> {
    let sources = source_schemas(pipeline);
    let (planned, mut problems) = plan_jobs(pipeline, &sources).await;
    for position in 0..pipeline.sources.len() {
        problems.extend(compile_when(pipeline, position).err().unwrap_or_default());
    }
    problems.extend(check_sinks(pipeline, &planned));
    let own = SystemTable::among(planned.iter().flat_map(|job| &job.reads).map(String::as_str));
    let inputs: TableSchemas =
        sources.into_iter().chain(own.into_iter().map(|table| (Arc::from(table.name()), table.schema()))).collect();
    match compile(&inputs, &planned, &|job| Arc::clone(&pipeline.jobs[job].sql)) {
        Ok(circuit) => problems.into_result(Some(circuit)),
        Err(found) => {
            problems.extend(found);
            problems.into_result(None)
        }
    }
}

pub(super) fn source_schemas(pipeline: &Pipeline) -> TableSchemas {
    pipeline.sources.iter().map(|source| (Arc::clone(&source.name), source.contract.table_schema())).collect()
}

impl Engine {
    /// An engine before its first epoch. `formats` say how each source's messages are written.
    ///
    /// # Errors
    /// All problems of the definition.
    pub async fn new(pipeline: Arc<Pipeline>, formats: &[Format]) -> Result<Self, Diagnostics> {
        let circuit = build_circuit(&pipeline).await?;
        let whole = |error: datafusion::error::DataFusionError| {
            Diagnostics(vec![Diagnostic::of_file(&pipeline.text, error.strip_backtrace())])
        };
        let mut sources = Vec::new();
        for (position, source) in pipeline.sources.iter().enumerate() {
            let format = formats.get(position).cloned().unwrap_or(Format::Json);
            sources.push(SourceState {
                decoder: Decoder::new(Arc::clone(&source.contract), format),
                intake: Intake::new(&source.contract, &source.identity).map_err(whole)?,
                counts: SourceCounts::default(),
                when: compile_when(&pipeline, position)?,
                judge: LateJudge::default(),
                window: BudgetWindow::default(),
            });
        }
        let (tables, partitionings) = job_tables(&pipeline, &circuit).map_err(whole)?;
        let own_inputs = SystemTable::among(circuit.jobs().iter().flat_map(|job| &job.reads).map(String::as_str));
        let clock = PipelineClock::new(pipeline.clock, pipeline.sources.iter().map(|source| source.event_time.clone()));
        Ok(Self {
            ambiguous: vec![BTreeSet::new(); tables.len()],
            circuit,
            sources,
            tables,
            partitionings,
            clock,
            journal: Journal::new(&pipeline.name),
            own_inputs,
            errors: BTreeMap::new(),
            pipeline,
        })
    }

    /// Runs one epoch. `record` gives its number and ranges; its clock and watermark are filled in. `watched` are the jobs
    /// whose keyed changes are wanted.
    ///
    /// # Errors
    /// `Budget` where a source gave more bad events than it may, in an epoch that was not logged yet; `Limit` where a state outgrows
    /// what can be counted, `Internal` for a broken invariant: the engine must not be used after any of them.
    pub fn run_epoch(
        &mut self,
        mut record: EpochRecord,
        input: EpochInput,
        watched: &[usize],
    ) -> Result<(EpochRecord, EpochOutput)> {
        let mark = self.journal.mark();
        let before = self.counts();
        let mut heard = vec![Heard::default(); self.sources.len()];
        let mut deltas = Vec::with_capacity(self.sources.len() + self.own_inputs.len());
        let (mut messages, mut rows) = (input.messages.into_iter(), input.rows.into_iter());
        for (position, heard) in heard.iter_mut().enumerate() {
            let (delta, said) =
                self.take_in(position, messages.next().unwrap_or_default(), rows.next().unwrap_or_default())?;
            *heard = said;
            deltas.push(delta);
        }
        self.check_budgets(&record, &before, mark)?;
        self.clock.advance(&heard, input.clock, input.ended);
        if let Some(at) = input.close_at {
            self.clock.close_at(at);
        }
        record.clock_us = self.clock.clock();
        record.watermark_us = self.clock.watermark();
        record.ended = input.ended;
        self.note_epoch(&record, &before);
        for &table in &self.own_inputs {
            deltas.push(self.journal.delta(table, mark)?);
        }
        let output = self.circuit.step(&deltas, record.watermark_us).map_err(engine_error)?;
        self.note_errors(output.errors);
        let stamp = Stamp { epoch: record.epoch, clock: record.clock_us, watermark: record.watermark_us };
        let (changed, changes) = self.bring_up_to_date(&output.jobs, watched)?;
        Ok((record, EpochOutput { stamp, changes, changed }))
    }

    /// Refuses an epoch with which a source has more dead letters than its budget has. A logged epoch has its clock already: it
    /// was within the budget, or before there was one.
    fn check_budgets(&mut self, record: &EpochRecord, before: &[SourceCounts], mark: Mark) -> Result<()> {
        for ((definition, source), before) in self.pipeline.sources.iter().zip(&mut self.sources).zip(before) {
            let Some(budget) = definition.dead_letters.budget else { continue };
            let overdrawn = source.window.take(source.counts.since(before), budget);
            let Some(share) = overdrawn.filter(|_| record.clock_us.is_none()) else { continue };
            let examples = self.journal.examples(&definition.name, mark);
            return Err(Error::new(ErrorKind::Budget, overdraft(&definition.name, share, budget, &examples)));
        }
        Ok(())
    }

    /// Notes the epoch and what became of its events; `before` is what was counted before it.
    fn note_epoch(&mut self, record: &EpochRecord, before: &[SourceCounts]) {
        for ((definition, source), before) in self.pipeline.sources.iter().zip(&self.sources).zip(before) {
            self.journal.intake(record.epoch, &definition.name, source.counts.since(before));
        }
        self.journal.epoch(record.clone());
    }

    /// Decodes one source's messages and takes the rows in.
    fn take_in(&mut self, position: usize, messages: Vec<RawMessage>, typed: Vec<RawRows>) -> Result<(Delta, Heard)> {
        let definition = &self.pipeline.sources[position];
        let source = &mut self.sources[position];
        if messages.is_empty() && typed.is_empty() {
            return Ok((Delta::empty(&definition.contract.table_schema()), Heard::default()));
        }
        let mut letters = Vec::new();
        let mut later = typed.iter().peekable();
        for message in &messages {
            while let Some(rows) = later.next_if(|rows| rows.first < message.sequence) {
                letters.extend(source.decode_rows(&definition.name, rows));
            }
            letters.extend(source.decode(&definition.name, message));
        }
        letters.extend(later.flat_map(|rows| source.decode_rows(&definition.name, rows)));
        let rows = source.decoder.finish();
        let admitted = source.intake.admit(&rows).map_err(engine_error)?;
        let places = positions(&rows).map_err(engine_error)?;
        let conflicts: Vec<(i64, i64)> =
            admitted.conflicts.iter().filter_map(|&row| places.get(row).copied()).collect();
        letters.extend(conflicting(&definition.name, &source.decoder, conflicts.iter().copied(), &messages));
        letters.extend(conflicting_rows(&definition.name, conflicts, &typed));
        let keep = definition.dead_letters.keep;
        letters.into_iter().for_each(|letter| self.journal.dead_letter(letter, keep));
        source.counts.duplicate += admitted.duplicates.len() as u64;
        source.counts.dead_letters += admitted.conflicts.len() as u64;
        let (accepted, heard) = self.settle_time(position, admitted.rows)?;
        let delta = self.sources[position].intake.accept(&accepted).map_err(engine_error)?;
        Ok((delta, heard))
    }

    /// Judges lateness row by row, in stream order; returns the rows that are accepted, and what they say of time.
    fn settle_time(&mut self, position: usize, rows: RecordBatch) -> Result<(RecordBatch, Heard)> {
        let definition = &self.pipeline.sources[position];
        let source = &mut self.sources[position];
        let received = timestamps(&rows, "_received_at")?;
        let heard = Heard { newest: None, received: newest(&received, &|_| true), rows: rows.num_rows() > 0 };
        let Some(event_time) = &definition.event_time else {
            source.counts.accepted += rows.num_rows() as u64;
            return Ok((rows, heard));
        };
        let times = timestamp_column(rows.column(event_time.column))?;
        let counts = when_holds(source.when.as_ref(), &rows)?;
        let satisfies = |row: usize| counts.as_ref().is_none_or(|counts| counts.is_valid(row) && counts.value(row));
        let mut on_time: Vec<bool> = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let time = times.is_valid(row).then(|| times.value(row));
            let at = received.is_valid(row).then(|| received.value(row));
            let behind = source.judge.judge(time, satisfies(row), at, event_time.lateness);
            on_time.push(!behind || definition.late == Late::Apply);
        }
        let heard = Heard { newest: newest(&times, &|row| on_time[row] && satisfies(row)), ..heard };
        let late = on_time.iter().filter(|&&on_time| !on_time).count();
        source.counts.accepted += (rows.num_rows() - late) as u64;
        source.counts.late += late as u64;
        if late == 0 {
            return Ok((rows, heard));
        }
        if definition.late == Late::Divert {
            let places = positions(&rows).map_err(engine_error)?;
            for (row, (sequence, index)) in places.into_iter().enumerate().filter(|&(row, _)| !on_time[row]) {
                let event_time = times.is_valid(row).then(|| times.value(row));
                self.journal.late(LateRow { source: Arc::clone(&definition.name), sequence, index, event_time });
            }
        }
        let accepted = filter_record_batch(&rows, &BooleanArray::from(on_time))
            .map_err(|error| Error::caused(ErrorKind::Internal, "setting late rows apart", error))?;
        Ok((accepted, heard))
    }

    fn note_errors(&mut self, errors: Vec<ErrorRow>) {
        for error in errors {
            let key = (error.job, error.expression, error.reason, error.row);
            let count = self.errors.entry(key.clone()).or_insert(0);
            *count += error.weight;
            if *count == 0 {
                self.errors.remove(&key);
            }
        }
    }

    fn bring_up_to_date(&mut self, deltas: &[Delta], watched: &[usize]) -> Result<(Vec<usize>, JobChanges)> {
        let mut changed = Vec::new();
        let mut changes = Vec::new();
        for (job, delta) in deltas.iter().enumerate() {
            if delta.is_empty() {
                continue;
            }
            changed.push(job);
            let table = &mut self.tables[job];
            table.apply(delta).map_err(engine_error)?;
            if table.key().is_empty() {
                continue;
            }
            let ambiguous = &mut self.ambiguous[job];
            let watched = watched.contains(&job);
            if !watched && ambiguous.is_empty() && table.surely_settled(delta.batch()).map_err(engine_error)? {
                continue;
            }
            let keys = table.touched_keys(delta.batch()).map_err(engine_error)?;
            if !ambiguous.is_empty() {
                let settled: BTreeSet<_> = key_texts(&keys.settled().map_err(engine_error)?)?.into_iter().collect();
                ambiguous.retain(|key| !settled.contains(key));
            }
            ambiguous.extend(key_texts(&keys.ambiguous().map_err(engine_error)?)?);
            if watched {
                let present = keys.present().map_err(engine_error)?;
                changes.push((job, KeyedChanges { present, gone: keys.gone().map_err(engine_error)? }));
            }
        }
        Ok((changed, changes))
    }

    /// The circuit, for descriptions.
    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// The number of the last epoch; 0 before the first.
    pub fn epoch(&self) -> Epoch {
        self.journal.epochs().last().map_or(Epoch(0), |record| record.epoch)
    }

    /// The clock of the last epoch.
    pub fn clock(&self) -> Option<Micros> {
        self.clock.clock()
    }

    /// The watermark of the last epoch.
    pub fn watermark(&self) -> Option<Micros> {
        self.clock.watermark()
    }

    /// The stamp of the last epoch.
    pub fn stamp(&self) -> Stamp {
        Stamp { epoch: self.epoch(), clock: self.clock(), watermark: self.watermark() }
    }

    /// Whether a tick at `clock` would move the watermark.
    pub fn would_move(&self, clock: Micros) -> bool {
        self.clock.watermark_at(clock) > self.clock.watermark()
    }

    /// The watermark if no source gave more: those without rows count as idle then.
    pub fn watermark_if_ended(&self) -> Option<Micros> {
        let mut ended = self.clock.clone();
        ended.advance(&vec![Heard::default(); self.sources.len()], None, true);
        ended.watermark()
    }

    /// The logged epochs.
    pub fn epochs(&self) -> &[EpochRecord] {
        self.journal.epochs()
    }

    /// What became of each source's events.
    pub fn counts(&self) -> Vec<SourceCounts> {
        self.sources.iter().map(|source| source.counts).collect()
    }

    /// Rows and problems of each job, in the order of the circuit.
    pub fn job_reports(&self) -> Vec<JobReport> {
        let report = |(position, job): (usize, &crate::circuit::CompiledJob)| JobReport {
            job: job.name.to_string(),
            rows: self.tables.get(position).map_or(0, |table| table.len() as u64),
            errors: self
                .errors
                .iter()
                .filter(|((failed, ..), _)| *failed == position)
                .map(|(_, count)| count.unsigned_abs())
                .sum(),
            ambiguous_keys: self.ambiguous.get(position).map_or(0, |keys| keys.len() as u64),
        };
        self.circuit.jobs().iter().enumerate().map(report).collect()
    }

    /// The rows of a job that stand under a key alone: what a change stream shows. `job` is a position in the circuit.
    pub fn publishable(&self, job: usize) -> Result<RecordBatch> {
        let table = self.tables.get(job).ok_or_else(|| Error::internal("no such job"))?;
        let batches = table.batches().map_err(engine_error)?;
        let rows = arrow::compute::concat_batches(table.schema(), &batches)
            .map_err(|error| Error::caused(ErrorKind::Internal, "putting a table together", error))?;
        table.touched_keys(&rows).and_then(|keys| keys.present()).map_err(engine_error)
    }

    /// The rows of a job's table. `job` is a position in the circuit.
    pub fn rows_of(&self, job: usize) -> Result<Vec<RecordBatch>> {
        let table = self.tables.get(job).ok_or_else(|| Error::internal("no such job"))?;
        table.batches().map_err(engine_error)
    }

    /// The partitions of a sink's table that changed since this was asked before; some may have no rows any more.
    pub(crate) fn take_touched(&mut self, sink: usize) -> BTreeSet<GroupKey> {
        let Some(&(job, partitioning)) = self.partitionings.get(&sink) else { return BTreeSet::new() };
        self.tables.get_mut(job).map(|table| table.take_touched(partitioning)).unwrap_or_default()
    }

    /// Some partitions of a sink's table, or all that have rows. Costs what they hold.
    pub(crate) fn partitions(&self, sink: usize, which: Option<&BTreeSet<GroupKey>>) -> Result<Vec<Partition>> {
        let found = self.partitionings.get(&sink).and_then(|&(job, at)| Some((self.tables.get(job)?, at)));
        let (table, partitioning) = found.ok_or_else(|| Error::internal("no such partitioning"))?;
        let keys = which.map_or_else(|| table.partitions(partitioning), |keys| keys.iter().cloned().collect());
        let partition = |key| table.partition(partitioning, key).map_err(engine_error);
        keys.iter().map(partition).collect()
    }

    /// Every table that `query` sees: jobs, upsert sources, and Milepost's own.
    pub fn query_tables(&self) -> Result<Vec<BatchTable>> {
        let mut tables = Vec::new();
        for (job, table) in self.circuit.jobs().iter().zip(&self.tables) {
            tables.push(batch_table(&job.name, table)?);
        }
        for (definition, source) in self.pipeline.sources.iter().zip(&self.sources) {
            if let Some(batches) = source.intake.table().map_err(engine_error)? {
                let (name, schema) = (Arc::clone(&definition.name), definition.contract.table_schema());
                tables.push(BatchTable { name, schema, batches });
            }
        }
        tables.extend(self.system_tables()?);
        Ok(tables)
    }

    fn system_tables(&self) -> Result<Vec<BatchTable>> {
        let errors: Vec<FailedRow<'_>> = self
            .errors
            .iter()
            .map(|((job, expression, reason, row), &count)| {
                let job = self.circuit.jobs().get(*job).map_or("", |job| &*job.name);
                FailedRow { job, expression, reason, row, count }
            })
            .collect();
        self.journal.tables(&errors, &self.circuit)
    }
}

/// The empty table of each job, with an index for each of its sinks that has partitions; by sink the job and the index.
fn job_tables(pipeline: &Pipeline, circuit: &Circuit) -> datafusion::error::Result<(Vec<Table>, Partitionings)> {
    let mut found = Partitionings::new();
    let mut tables = Vec::new();
    for (position, job) in circuit.jobs().iter().enumerate() {
        let mut partitionings: Vec<Vec<usize>> = Vec::new();
        for (sink, definition) in pipeline.sinks.iter().enumerate() {
            let SinkTarget::Parquet { partition_by, .. } = &definition.target else { continue };
            if definition.job == job.job && !partition_by.is_empty() {
                let columns = partition_by.iter().map(|(column, _)| job.schema.index_of(column));
                found.insert(sink, (position, partitionings.len()));
                partitionings.push(columns.collect::<Result<_, _>>()?);
            }
        }
        tables.push(Table::partitioned(Arc::clone(&job.schema), job.key.clone(), partitionings)?);
    }
    Ok((tables, found))
}

fn batch_table(name: &Arc<str>, table: &Table) -> Result<BatchTable> {
    Ok(BatchTable {
        name: Arc::clone(name),
        schema: Arc::clone(table.schema()),
        batches: table.batches().map_err(engine_error)?,
    })
}

/// The predicate that decides which rows move a source's watermark.
pub(super) fn compile_when(pipeline: &Pipeline, position: usize) -> Result<Option<Arc<dyn PhysicalExpr>>, Diagnostics> {
    let source = &pipeline.sources[position];
    let Some((sql, span)) = source.event_time.as_ref().and_then(|event_time| event_time.when.as_ref()) else {
        return Ok(None);
    };
    row_predicate(sql, &source.contract.table_schema()).map(Some).map_err(|problem| {
        let message = format!("`when` of source `{}`: {}", source.name, problem.message);
        let help = problem.help.unwrap_or_else(|| {
            "write a condition over the contract's columns, such as \"classifier = 'ACT'\"".to_owned()
        });
        Diagnostics(vec![Diagnostic::new(&pipeline.text, span.clone(), message).with_help(help)])
    })
}

pub(super) fn when_holds(when: Option<&Arc<dyn PhysicalExpr>>, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
    let Some(when) = when else { return Ok(None) };
    let values = when.evaluate(rows).and_then(|value| value.into_array(rows.num_rows())).map_err(engine_error)?;
    Ok(Some(as_boolean_array(&values).map_err(engine_error)?.clone()))
}

pub(super) fn timestamps(rows: &RecordBatch, column: &str) -> Result<TimestampMicrosecondArray> {
    let column = rows.column_by_name(column).ok_or_else(|| Error::internal(format!("no column `{column}`")))?;
    timestamp_column(column)
}

pub(super) fn timestamp_column(column: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    column
        .as_any()
        .downcast_ref::<TimestampMicrosecondArray>()
        .cloned()
        .ok_or_else(|| Error::internal("a time is not in microseconds"))
}

fn newest(times: &TimestampMicrosecondArray, counts: &dyn Fn(usize) -> bool) -> Option<Micros> {
    (0..times.len()).filter(|&row| times.is_valid(row) && counts(row)).map(|row| times.value(row)).max()
}

impl SourceState {
    /// Decodes a message; returns the dead letters of its bad events.
    fn decode(&mut self, name: &Arc<str>, message: &RawMessage) -> Vec<DeadLetter> {
        let mut rejections = Vec::new();
        let rows = self.decoder.decode(message, &mut rejections);
        self.counts.read += (rows + rejections.len()) as u64;
        self.counts.dead_letters += rejections.len() as u64;
        dead_letters(name, &self.decoder, message, rejections)
    }

    /// Decodes records that have types; returns the dead letters of the bad ones.
    fn decode_rows(&mut self, name: &Arc<str>, rows: &RawRows) -> Vec<DeadLetter> {
        let mut rejected = Vec::new();
        let origin = Origin::Records { stream: &rows.stream, first: rows.first };
        let good = self.decoder.decode_batch(&rows.rows, origin, &mut rejected);
        self.counts.read += (good + rejected.len()) as u64;
        self.counts.dead_letters += rejected.len() as u64;
        let letter = |rejected: RejectedRow| dead_row(name, rows, rejected.row, rejected.rejection);
        rejected.into_iter().map(letter).collect()
    }
}

/// The dead letter of a record that has types.
pub(super) fn dead_row(source: &Arc<str>, rows: &RawRows, row: usize, rejection: Rejection) -> DeadLetter {
    DeadLetter { source: Arc::clone(source), message: row_message(rows, row), rejection }
}

/// The dead letters of records, by their places in the files' order, whose keys are known with other content.
pub(super) fn conflicting_rows(source: &Arc<str>, places: Vec<(i64, i64)>, typed: &[RawRows]) -> Vec<DeadLetter> {
    let letter = |(sequence, _): (i64, i64)| {
        let sequence = u64::try_from(sequence).ok()?;
        let rows = typed.get(typed.partition_point(|rows| rows.first <= sequence).checked_sub(1)?)?;
        let row = usize::try_from(sequence - rows.first).ok().filter(|row| *row < rows.rows.num_rows())?;
        Some(dead_row(source, rows, row, id_conflict(0)))
    };
    places.into_iter().filter_map(letter).collect()
}

/// What is wrong with an event whose key is known with other content.
fn id_conflict(index: u32) -> Rejection {
    Rejection {
        index,
        place: String::new(),
        rule: "ID_CONFLICT",
        reason: "an event with the same key and other content was accepted before".to_owned(),
    }
}

/// The dead letters of one message's events.
pub(super) fn dead_letters(
    source: &Arc<str>,
    decoder: &Decoder,
    message: &RawMessage,
    rejections: Vec<Rejection>,
) -> Vec<DeadLetter> {
    if rejections.is_empty() {
        return Vec::new();
    }
    let indexes: Vec<u32> = rejections.iter().map(|rejection| rejection.index).collect();
    let bodies = decoder.event_bodies(message, &indexes);
    let letter = |(rejection, body)| DeadLetter {
        source: Arc::clone(source),
        message: RawMessage { body, ..message.clone() },
        rejection,
    };
    rejections.into_iter().zip(bodies).map(letter).collect()
}

/// The dead letters of rows, by their places in stream order, whose keys are known with other content.
pub(super) fn conflicting(
    source: &Arc<str>,
    decoder: &Decoder,
    places: impl Iterator<Item = (i64, i64)>,
    messages: &[RawMessage],
) -> Vec<DeadLetter> {
    let mut of_message: BTreeMap<usize, Vec<Rejection>> = BTreeMap::new();
    for (sequence, index) in places {
        let (Ok(sequence), Ok(index)) = (u64::try_from(sequence), u32::try_from(index)) else { continue };
        if let Ok(position) = messages.binary_search_by_key(&sequence, |message| message.sequence) {
            of_message.entry(position).or_default().push(id_conflict(index));
        }
    }
    let letters = of_message
        .into_iter()
        .filter_map(|(position, rejections)| Some(dead_letters(source, decoder, messages.get(position)?, rejections)));
    letters.flatten().collect()
}

/// Keys as text, for reports.
fn key_texts(keys: &RecordBatch) -> Result<Vec<String>> {
    let options = arrow::util::display::FormatOptions::default().with_null("null");
    let columns = keys
        .columns()
        .iter()
        .map(|column| arrow::util::display::ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::caused(ErrorKind::Internal, "showing a key", error))?;
    let text = |row: usize| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(", ");
    Ok((0..keys.num_rows()).map(text).collect())
}

pub(super) fn engine_error(error: datafusion::error::DataFusionError) -> Error {
    let kind = match error.find_root() {
        datafusion::error::DataFusionError::Execution(_)
        | datafusion::error::DataFusionError::ResourcesExhausted(_) => ErrorKind::Limit,
        _ => ErrorKind::Internal,
    };
    let cause = match error.find_root() {
        datafusion::error::DataFusionError::Internal(text) => text.clone(),
        other => other.strip_backtrace(),
    };
    Error::caused(kind, "stepping the circuit", cause)
}
