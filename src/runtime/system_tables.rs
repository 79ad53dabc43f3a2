//! Milepost's own tables: what `query` shows of them, and what an epoch adds to those that jobs read.
//!
//! They are functions of the logged epochs: the same after a restart, which runs these epochs again. Beside dead letters and
//! late rows they show how the input was cut into epochs, and so does a job that reads them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use bytes::Bytes;

use serde::{Deserialize, Serialize};

use crate::checkpoint::EpochRecord;
use crate::circuit::{Circuit, NodeDescription};
use crate::decode::{readable, redacted};
use crate::definition::pipeline::Keep;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{BatchTable, SystemTable};
use crate::state::Delta;
use crate::types::{DeadLetter, Epoch, Micros, RawMessage, Rejection};

use super::report::SourceCounts;

/// What the epochs so far left to be asked about; it grows with every one of them.
pub(super) struct Journal {
    pipeline: Arc<str>,
    pub(super) dead_letters: Vec<DeadLetter>,
    pub(super) late: Vec<LateRow>,
    pub(super) intake: Vec<IntakeRow>,
    pub(super) epochs: Vec<EpochRecord>,
}

/// A row that came behind its source's watermark and was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LateRow {
    pub(super) source: Arc<str>,
    pub(super) sequence: i64,
    pub(super) index: i64,
    pub(super) event_time: Option<Micros>,
}

/// What became of the events that a source gave in an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IntakeRow {
    epoch: Epoch,
    source: Arc<str>,
    counts: SourceCounts,
}

/// A row that an expression failed on, and how often it stands there.
pub(super) struct FailedRow<'a> {
    pub(super) job: &'a str,
    pub(super) expression: &'a str,
    pub(super) reason: &'a str,
    pub(super) row: &'a str,
    pub(super) count: i64,
}

/// How long the journal was before an epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    dead_letters: usize,
    late: usize,
    intake: usize,
    epochs: usize,
}

impl Journal {
    /// Of a pipeline that has not run yet.
    pub(super) fn new(pipeline: &str) -> Self {
        Self {
            pipeline: pipeline.into(),
            dead_letters: Vec::new(),
            late: Vec::new(),
            intake: Vec::new(),
            epochs: Vec::new(),
        }
    }

    /// Notes an event that could not be read, or as much of it as may be kept.
    pub(super) fn dead_letter(&mut self, letter: DeadLetter, keep: Keep) {
        self.dead_letters.push(kept(letter, keep));
    }

    /// Notes a row that was diverted.
    pub(super) fn late(&mut self, row: LateRow) {
        self.late.push(row);
    }

    /// Notes what became of the events of a source in an epoch; nothing if it gave none.
    pub(super) fn intake(&mut self, epoch: Epoch, source: &Arc<str>, counts: SourceCounts) {
        if counts.read > 0 {
            self.intake.push(IntakeRow { epoch, source: Arc::clone(source), counts });
        }
    }

    /// Notes an epoch.
    pub(super) fn epoch(&mut self, record: EpochRecord) {
        self.epochs.push(record);
    }

    /// The epochs so far.
    pub(super) fn epochs(&self) -> &[EpochRecord] {
        &self.epochs
    }

    /// Where the journal ends now.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            dead_letters: self.dead_letters.len(),
            late: self.late.len(),
            intake: self.intake.len(),
            epochs: self.epochs.len(),
        }
    }

    /// Where some of the bad events of a source since the mark are, and which rules they break; none of their values.
    pub(super) fn examples(&self, source: &str, since: Mark) -> String {
        let letters = rest(&self.dead_letters, since.dead_letters).iter().filter(|letter| *letter.source == *source);
        let example = |letter: &DeadLetter| {
            let (at, index, rule) = (letter.message.sequence, letter.rejection.index, letter.rejection.rule);
            format!("{rule} at sequence {at}, event {index}")
        };
        letters.take(EXAMPLES_MAX).map(example).collect::<Vec<_>>().join("; ")
    }

    /// How a table that jobs may read changed since the mark.
    pub(super) fn delta(&self, table: SystemTable, since: Mark) -> Result<Delta> {
        let appended = |columns| Ok(Delta::insertions(batch(table, columns)?));
        match table {
            SystemTable::DeadLetters => appended(dead_letters(rest(&self.dead_letters, since.dead_letters))),
            SystemTable::Late => appended(late(rest(&self.late, since.late))),
            SystemTable::Intake => appended(intake(rest(&self.intake, since.intake))),
            SystemTable::Epochs => appended(epochs(rest(&self.epochs, since.epochs))),
            SystemTable::Progress => {
                let before = since.epochs.checked_sub(1).and_then(|last| self.epochs.get(last));
                let now = self.epochs.last().filter(|_| self.epochs.len() > since.epochs);
                let Some(now) = now else { return Ok(Delta::empty(&table.schema())) };
                let weights = if before.is_some() { vec![-1, 1] } else { vec![1] };
                let rows: Vec<&EpochRecord> = before.into_iter().chain([now]).collect();
                Ok(Delta::new(batch(table, self.progress(&rows))?, weights))
            }
            SystemTable::Errors | SystemTable::Operators => {
                Err(Error::internal(format!("no job reads `{}`", table.name())))
            }
        }
    }

    /// The tables that jobs may read, as they stand.
    pub(super) fn readable(&self) -> Result<Vec<BatchTable>> {
        let last: Vec<&EpochRecord> = self.epochs.last().into_iter().collect();
        let whole = |(table, columns): (SystemTable, Vec<ArrayRef>)| {
            let batches = vec![batch(table, columns)?];
            Ok(BatchTable { name: Arc::from(table.name()), schema: table.schema(), batches })
        };
        [
            (SystemTable::DeadLetters, dead_letters(&self.dead_letters)),
            (SystemTable::Late, late(&self.late)),
            (SystemTable::Intake, intake(&self.intake)),
            (SystemTable::Epochs, epochs(&self.epochs)),
            (SystemTable::Progress, self.progress(&last)),
        ]
        .into_iter()
        .map(whole)
        .collect()
    }

    /// Every table as it stands, for `query`.
    pub(super) fn tables(&self, errors: &[FailedRow<'_>], circuit: &Circuit) -> Result<Vec<BatchTable>> {
        let last: Vec<&EpochRecord> = self.epochs.last().into_iter().collect();
        let whole = |table: SystemTable| {
            let columns = match table {
                SystemTable::DeadLetters => dead_letters(&self.dead_letters),
                SystemTable::Late => late(&self.late),
                SystemTable::Intake => intake(&self.intake),
                SystemTable::Epochs => epochs(&self.epochs),
                SystemTable::Progress => self.progress(&last),
                SystemTable::Errors => failed(errors),
                SystemTable::Operators => operators(circuit),
            };
            let batches = vec![batch(table, columns)?];
            Ok(BatchTable { name: Arc::from(table.name()), schema: table.schema(), batches })
        };
        SystemTable::ALL.into_iter().map(whole).collect()
    }

    fn progress(&self, epochs: &[&EpochRecord]) -> Vec<ArrayRef> {
        vec![
            texts(epochs.iter().map(|_| self.pipeline.to_string())),
            integers(epochs.iter().map(|record| record.epoch.0)),
            times(epochs.iter().map(|record| record.clock_us)),
            times(epochs.iter().map(|record| record.watermark_us)),
        ]
    }
}

/// What of a dead letter may be kept. A reason has the wrong value in it, so it goes with the values; a rule and a place are
/// names.
fn kept(letter: DeadLetter, keep: Keep) -> DeadLetter {
    let DeadLetter { source, message, rejection } = letter;
    match keep {
        Keep::Full => DeadLetter { source, message, rejection },
        Keep::Redacted => DeadLetter {
            source,
            message: redacted(&message),
            rejection: Rejection { reason: String::new(), ..rejection },
        },
        Keep::Reference => DeadLetter {
            source,
            message: RawMessage {
                stream: message.stream,
                sequence: message.sequence,
                subject: Arc::from(""),
                received_at: message.received_at,
                headers: Vec::new(),
                columns: None,
                body: Bytes::new(),
            },
            rejection: Rejection { place: String::new(), reason: String::new(), ..rejection },
        },
    }
}

/// How many bad events are named when there are too many.
const EXAMPLES_MAX: usize = 3;

fn rest<T>(all: &[T], from: usize) -> &[T] {
    all.get(from..).unwrap_or_default()
}

/// `body` is the message as it came, `text` the same for reading.
fn dead_letters(letters: &[DeadLetter]) -> Vec<ArrayRef> {
    let text = |value: &dyn Fn(&DeadLetter) -> String| texts(letters.iter().map(value));
    let headers = |letter: &DeadLetter| serde_json::to_string(&letter.message.headers).unwrap_or_default();
    let bodies: BinaryArray = letters.iter().map(|letter| Some(letter.message.body.as_ref())).collect();
    vec![
        text(&|letter| letter.source.to_string()),
        text(&|letter| letter.message.stream.to_string()),
        integers(letters.iter().map(|letter| letter.message.sequence)),
        integers(letters.iter().map(|letter| u64::from(letter.rejection.index))),
        text(&|letter| letter.message.subject.to_string()),
        times(letters.iter().map(|letter| letter.message.received_at)),
        text(&|letter| letter.rejection.rule.to_owned()),
        text(&|letter| letter.rejection.place.clone()),
        text(&|letter| letter.rejection.reason.clone()),
        text(&headers),
        text(&|letter| readable(&letter.message)),
        Arc::new(bodies),
    ]
}

fn late(rows: &[LateRow]) -> Vec<ArrayRef> {
    vec![
        texts(rows.iter().map(|row| row.source.to_string())),
        Arc::new(rows.iter().map(|row| Some(row.sequence)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.index)).collect::<Int64Array>()),
        times(rows.iter().map(|row| row.event_time)),
    ]
}

fn intake(rows: &[IntakeRow]) -> Vec<ArrayRef> {
    let count = |value: &dyn Fn(&SourceCounts) -> u64| integers(rows.iter().map(|row| value(&row.counts)));
    vec![
        integers(rows.iter().map(|row| row.epoch.0)),
        texts(rows.iter().map(|row| row.source.to_string())),
        count(&|counts| counts.read),
        count(&|counts| counts.accepted),
        count(&|counts| counts.duplicate),
        count(&|counts| counts.late),
        count(&|counts| counts.dead_letters),
    ]
}

/// `inputs` is JSON.
fn epochs(epochs: &[EpochRecord]) -> Vec<ArrayRef> {
    let inputs = |record: &EpochRecord| serde_json::to_string(&record.inputs).unwrap_or_default();
    vec![
        integers(epochs.iter().map(|record| record.epoch.0)),
        times(epochs.iter().map(|record| record.clock_us)),
        times(epochs.iter().map(|record| record.watermark_us)),
        Arc::new(epochs.iter().map(|record| Some(record.ended)).collect::<BooleanArray>()),
        texts(epochs.iter().map(inputs)),
    ]
}

fn failed(errors: &[FailedRow<'_>]) -> Vec<ArrayRef> {
    let text = |value: &dyn Fn(&FailedRow<'_>) -> String| texts(errors.iter().map(value));
    vec![
        text(&|error| error.job.to_owned()),
        text(&|error| error.expression.to_owned()),
        text(&|error| error.reason.to_owned()),
        text(&|error| error.row.to_owned()),
        Arc::new(errors.iter().map(|error| Some(error.count)).collect::<Int64Array>()),
    ]
}

fn operators(circuit: &Circuit) -> Vec<ArrayRef> {
    let nodes = circuit.describe();
    let jobs = |node: &NodeDescription| {
        let names = node.jobs.iter().filter_map(|&job| circuit.jobs().get(job)).map(|job| &*job.name);
        names.collect::<Vec<_>>().join(", ")
    };
    let inputs = |node: &NodeDescription| node.inputs.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    vec![
        integers(nodes.iter().map(|node| number(node.id))),
        texts(nodes.iter().map(inputs)),
        texts(nodes.iter().map(jobs)),
        texts(nodes.iter().map(|node| node.text.clone())),
        integers(nodes.iter().map(|node| number(node.held.rows))),
        integers(nodes.iter().map(|node| number(node.held.bytes))),
    ]
}

fn texts(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringViewArray>())
}

fn integers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(values.map(|value| i64::try_from(value).ok()).collect::<Int64Array>())
}

fn times(values: impl Iterator<Item = Option<Micros>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn batch(table: SystemTable, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(table.schema(), columns)
        .map_err(|error| Error::caused(ErrorKind::Internal, format!("building `{}`", table.name()), error))
}
