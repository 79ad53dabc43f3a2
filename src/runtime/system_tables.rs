//! Milepost's own tables, for `query`: `milepost.dead_letters`, `.errors`, `.late`, `.epochs`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};

use crate::checkpoint::EpochRecord;
use crate::decode::readable;
use crate::definition::contract::utc_timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::BatchTable;
use crate::types::{DeadLetter, Micros};

use super::engine::LateRow;

/// Every event that could not be read: `body` as it came, `text` the same for reading.
pub(super) fn dead_letters(letters: &[DeadLetter]) -> Result<BatchTable> {
    let text = |value: &dyn Fn(&DeadLetter) -> String| -> ArrayRef {
        Arc::new(letters.iter().map(|letter| Some(value(letter))).collect::<StringArray>())
    };
    let headers = |letter: &DeadLetter| serde_json::to_string(&letter.message.headers).unwrap_or_default();
    let bodies: BinaryArray = letters.iter().map(|letter| Some(letter.message.body.as_ref())).collect();
    table(
        "milepost.dead_letters",
        vec![
            ("source", text(&|letter| letter.source.to_string())),
            ("stream", text(&|letter| letter.message.stream.to_string())),
            ("sequence", integers(letters.iter().map(|letter| letter.message.sequence))),
            ("index", integers(letters.iter().map(|letter| u64::from(letter.rejection.index)))),
            ("subject", text(&|letter| letter.message.subject.to_string())),
            ("received_at", times(letters.iter().map(|letter| letter.message.received_at))),
            ("rule", text(&|letter| letter.rejection.rule.to_owned())),
            ("place", text(&|letter| letter.rejection.place.clone())),
            ("reason", text(&|letter| letter.rejection.reason.clone())),
            ("headers", text(&headers)),
            ("text", text(&|letter| readable(&letter.message))),
            ("body", Arc::new(bodies)),
        ],
    )
}

/// A row that an expression failed on, and how often it stands there.
pub(super) struct FailedRow<'a> {
    pub(super) job: &'a str,
    pub(super) expression: &'a str,
    pub(super) reason: &'a str,
    pub(super) row: &'a str,
    pub(super) count: i64,
}

/// Rows that an expression failed on.
pub(super) fn errors(errors: &[FailedRow<'_>]) -> Result<BatchTable> {
    let text = |value: &dyn Fn(&FailedRow<'_>) -> String| -> ArrayRef {
        Arc::new(errors.iter().map(|error| Some(value(error))).collect::<StringArray>())
    };
    table(
        "milepost.errors",
        vec![
            ("job", text(&|error| error.job.to_owned())),
            ("expression", text(&|error| error.expression.to_owned())),
            ("reason", text(&|error| error.reason.to_owned())),
            ("row", text(&|error| error.row.to_owned())),
            ("count", Arc::new(errors.iter().map(|error| Some(error.count)).collect::<Int64Array>())),
        ],
    )
}

/// Rows behind their source's watermark that were diverted.
pub(super) fn late(rows: &[LateRow]) -> Result<BatchTable> {
    table(
        "milepost.late",
        vec![
            ("source", Arc::new(rows.iter().map(|row| Some(row.source.as_ref())).collect::<StringArray>())),
            ("sequence", Arc::new(rows.iter().map(|row| Some(row.sequence)).collect::<Int64Array>())),
            ("index", Arc::new(rows.iter().map(|row| Some(row.index)).collect::<Int64Array>())),
            ("event_time", times(rows.iter().map(|row| row.event_time))),
        ],
    )
}

/// The logged epochs; `inputs` is JSON.
pub(super) fn epochs(epochs: &[EpochRecord]) -> Result<BatchTable> {
    let inputs = |record: &EpochRecord| serde_json::to_string(&record.inputs).unwrap_or_default();
    table(
        "milepost.epochs",
        vec![
            ("epoch", integers(epochs.iter().map(|record| record.epoch.0))),
            ("clock", times(epochs.iter().map(|record| record.clock_us))),
            ("watermark", times(epochs.iter().map(|record| record.watermark_us))),
            ("ended", Arc::new(epochs.iter().map(|record| Some(record.ended)).collect::<BooleanArray>())),
            ("inputs", Arc::new(epochs.iter().map(|record| Some(inputs(record))).collect::<StringArray>())),
        ],
    )
}

fn integers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(values.map(|value| i64::try_from(value).ok()).collect::<Int64Array>())
}

fn times(values: impl Iterator<Item = Option<Micros>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn table(name: &str, columns: Vec<(&str, ArrayRef)>) -> Result<BatchTable> {
    let field = |(name, column): &(&str, ArrayRef)| match column.data_type() {
        DataType::Timestamp(..) => Field::new(*name, utc_timestamp(), true),
        other => Field::new(*name, other.clone(), true),
    };
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)
        .map_err(|error| Error::caused(ErrorKind::Internal, format!("building `{name}`"), error))?;
    Ok(BatchTable { name: Arc::from(name), schema, batches: vec![batch] })
}
