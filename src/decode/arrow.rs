//! Arrow record batches to rows: every cell becomes the slot that the same value in a JSON event would become, and the same
//! code checks bounds, `enum`, required properties and conditions.
//!
//! The law: a value is taken exactly, or its row is refused. Nothing is rounded, cut off or wrapped:
//!
//! | contract | Arrow columns that are read |
//! |---|---|
//! | string | `Utf8`, `LargeUtf8`, `Utf8View` |
//! | boolean | `Boolean` |
//! | integer | integers; decimals and floats whose values are integers |
//! | number | floats that are finite; integers that a double holds |
//! | decimal | decimals and integers that fit precision and scale; texts |
//! | date-time | `Timestamp` of any unit with a time zone, down to the microsecond; texts |
//! | date | `Date32`, `Date64` of whole days; texts |
//! | time | `Time32`, `Time64`, down to the microsecond; texts |
//! | duration | `Duration`, `Interval`, none negative; texts |
//! | object | `Struct`; fields by name |
//! | array | `List`, `LargeList`, `FixedSizeList` |
//!
//! Any of them may be dictionary-encoded, unless it is nested, and a column of type `Null` is one of nulls. Of another type
//! each value that is not null is refused (`WRONG_TYPE`), so an optional column that is empty harms nobody. Arrow has one
//! null and no absence: null is the JSON null where the contract allows it, else an absent property. Columns that the
//! contract does not name are left unread where it accepts additional properties, and refuse every row where it does not.

mod cells;
mod exact;
mod ipc;
mod lz4;
mod row;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::rule::{self, Checked, Fault};
use super::shape::Plan;
use super::{Decoder, MESSAGE_BYTES_MAX, RowPlace};
use crate::definition::contract::Contract;
use crate::types::{RawMessage, RawRows, Rejection, Sequence};

pub(crate) use self::cells::ObjectCells;
pub(crate) use self::ipc::{batches, row_count};
pub use self::row::{row_bytes, row_text};

/// Where the rows of a record batch stand in their source.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// They are events of one message; the first has this index.
    Message {
        /// The message that they came in.
        message: &'a RawMessage,
        /// The index of the first.
        first: u32,
    },
    /// Each is a record of its own, with index 0; the first has this sequence.
    Records {
        /// What `_stream` says.
        stream: &'a Arc<str>,
        /// The sequence of the first.
        first: Sequence,
    },
}

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Its number in the batch, from 0.
    pub row: usize,
    /// What is wrong with it, with the index of its [`Origin`].
    pub rejection: Rejection,
}

impl Decoder {
    /// Decodes the rows of a record batch: appends the good ones, in order, and adds a rejection for each bad one. Returns how
    /// many were appended. Each row of the batch is one or the other.
    pub fn decode_batch(&mut self, batch: &RecordBatch, origin: Origin<'_>, rejected: &mut Vec<RejectedRow>) -> usize {
        let cells = self.bind(batch);
        let mut appended = 0;
        for row in 0..batch.num_rows() {
            let place = origin.place(row);
            match self.row(&cells, row, place) {
                Ok(()) => appended += 1,
                Err(fault) => rejected.push(RejectedRow { row, rejection: fault.rejection(place.index) }),
            }
        }
        appended
    }

    /// The columns of a batch, matched with the contract.
    pub(super) fn bind(&self, batch: &RecordBatch) -> ObjectCells {
        let schema = batch.schema();
        ObjectCells::bind(batch.columns(), schema.fields(), &self.plan.root, self.plan.additional)
    }

    /// Reads one row, and appends it if all of it is good.
    pub(super) fn row(&mut self, cells: &ObjectCells, row: usize, place: RowPlace<'_>) -> Checked<()> {
        self.scratch.clear();
        cells.read(&self.plan, &self.plan.root, row, &mut self.scratch)?;
        let bytes = self.scratch.unescaped.len();
        if bytes > MESSAGE_BYTES_MAX {
            let reason = format!("the texts of the event have {bytes} bytes, more than {MESSAGE_BYTES_MAX}");
            return Err(Fault::new(rule::MESSAGE_TOO_LARGE, reason));
        }
        self.settle("", place)
    }
}

/// A record that has types, as a message of its own: what a dead letter keeps of it.
pub fn row_message(rows: &RawRows, row: usize) -> RawMessage {
    let position = row.min(rows.rows.num_rows().saturating_sub(1));
    RawMessage {
        stream: Arc::clone(&rows.stream),
        sequence: rows.first.saturating_add(position as u64),
        subject: Arc::from(""),
        received_at: None,
        headers: vec![(super::encoding::HEADER.to_owned(), super::encoding::ARROW.to_owned())],
        columns: None,
        body: row_bytes(&rows.rows, row).unwrap_or_default(),
    }
}

/// Why no row of a schema can be read as a contract says, whatever its values are: a required column is missing, the type of
/// a column is another one, or a column is not the contract's and it accepts no others. One reason a column, in the contract's
/// order; none where each row is to be judged by itself.
pub fn misfits(contract: &Contract, schema: &SchemaRef) -> Vec<String> {
    let plan = Plan::new(contract);
    let batch = RecordBatch::new_empty(Arc::clone(schema));
    ObjectCells::bind(batch.columns(), schema.fields(), &plan.root, plan.additional).misfits(&plan.root)
}

/// The batches of a message, matched with the contract. A batch can refer to one text from many rows: all of them together
/// may not take more bytes than an unpacked message.
pub(super) fn bound_batches(decoder: &Decoder, message: &RawMessage) -> Checked<Vec<(RecordBatch, ObjectCells)>> {
    let batches = batches(&message.body)?;
    let bound: Vec<_> = batches
        .into_iter()
        .map(|batch| {
            let cells = decoder.bind(&batch);
            (batch, cells)
        })
        .collect();
    let bytes = bound.iter().map(|(_, cells)| cells.text_bytes()).sum();
    if bytes > super::ARROW_BYTES_MAX {
        return Err(ipc::too_large(bytes));
    }
    Ok(bound)
}

impl<'a> Origin<'a> {
    fn place(self, row: usize) -> RowPlace<'a> {
        match self {
            Self::Message { message, first } => {
                RowPlace::of(message, first.saturating_add(u32::try_from(row).unwrap_or(u32::MAX)))
            }
            Self::Records { stream, first } => {
                RowPlace { received_at: None, stream, sequence: first.saturating_add(row as u64), index: 0 }
            }
        }
    }
}
