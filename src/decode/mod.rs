//! Raw messages to Arrow rows, strictly and typed: exactly the rows that the encoding promises, or a rejection.
//!
//! The law: every message is decoded on its own; each event of it becomes one row or one [`Rejection`] with place, rule
//! and reason, and neither touches its neighbours. An event is read into scratch slots first and goes to the builders
//! only when all of it is known to be good, so there is nothing to take back. Of several faults the first is named, in
//! the order: the message (size, UTF-8, empty), the text from its start, missing properties, conditions of the contract.
//!
//! Nothing is rounded, truncated or guessed: numbers are read from their text ([`rule`] lists what is refused).

mod columns;
mod csv;
mod ignored;
mod json;
mod number;
pub mod rule;
mod scalar;
mod shape;
mod slot;
mod time;

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Int64Builder, RecordBatch, StringViewBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::SchemaRef;

use crate::definition::contract::{Contract, utc_timestamp};
use crate::types::{RawMessage, Rejection};

use self::columns::{ColumnBuilder, Row};
use self::csv::Header;
use self::json::{Reader, WHITE_SPACE};
use self::rule::{Checked, Fault};
use self::shape::Plan;
use self::slot::{Scratch, Texts};

/// The longest message that is read, in bytes: 1 MiB.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// How deep arrays and objects may be nested, the event itself being level 1.
pub const DEPTH_MAX: usize = 64;

/// The longest number that is read, in characters.
pub const NUMBER_BYTES_MAX: usize = 400;

/// How a message's body is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// One JSON document.
    Json,
    /// One CSV record (RFC 4180, without its line ending). An empty field is an absent property, `""` the empty text;
    /// arrays and objects are JSON in their cell.
    Csv {
        /// The file's column names. One that the contract does not name is ignored, or rejects every record where the
        /// contract does not accept additional properties.
        header: Vec<String>,
    },
}

/// Decodes messages of one source into one growing batch of rows.
#[derive(Debug)]
pub struct Decoder {
    plan: Plan,
    layout: Layout,
    schema: SchemaRef,
    columns: Vec<ColumnBuilder>,
    system: SystemColumns,
    scratch: Scratch,
    rows: usize,
}

#[derive(Debug)]
enum Layout {
    Json,
    Csv(Header),
}

impl Decoder {
    /// A decoder without rows.
    ///
    /// # Panics
    ///
    /// If the contract contradicts itself in a way that its compiler rules out: a constant that is not of its column's
    /// kind, a condition on a column that does not exist.
    pub fn new(contract: Arc<Contract>, format: Format) -> Self {
        let plan = Plan::new(&contract);
        let layout = match format {
            Format::Json => Layout::Json,
            Format::Csv { header } => Layout::Csv(Header::new(header, &plan.root)),
        };
        let columns = contract.columns.iter().map(|column| ColumnBuilder::new(&column.kind.data_type())).collect();
        Self {
            plan,
            layout,
            schema: contract.table_schema(),
            columns,
            system: SystemColumns::new(),
            scratch: Scratch::default(),
            rows: 0,
        }
    }

    /// Decodes one message: appends its good events as rows, in order, and adds a rejection for each bad one. Returns how
    /// many rows were appended. Rows and rejections of a message together are its events, at least one.
    pub fn decode(&mut self, message: &RawMessage, rejections: &mut Vec<Rejection>) -> usize {
        let index = 0;
        match self.event(message, index) {
            Ok(()) => 1,
            Err(fault) => {
                rejections.push(fault.rejection(index));
                0
            }
        }
    }

    /// How many rows the next [`Decoder::finish`] will give.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The rows since the last `finish`, in the schema of [`Contract::table_schema`]; the decoder starts anew.
    pub fn finish(&mut self) -> RecordBatch {
        self.rows = 0;
        let mut arrays: Vec<_> = self.columns.iter_mut().map(ColumnBuilder::finish).collect();
        self.system.finish(&mut arrays);
        RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .expect("builders are made from the schema's types, and take null only where it allows null")
    }

    fn event(&mut self, message: &RawMessage, index: u32) -> Checked<()> {
        let text = message_text(&message.body)?;
        let Self { plan, layout, scratch, .. } = self;
        scratch.clear();
        match layout {
            Layout::Json => Reader { plan, message: text, scratch }.document(text)?,
            Layout::Csv(header) => header.record(plan, text, scratch)?,
        }
        let texts = Texts { message: text, unescaped: &scratch.unescaped, contract: &plan.texts };
        plan.root.require(&scratch.stack)?;
        for condition in &plan.conditions {
            condition.check(&plan.root, &scratch.stack, &texts)?;
        }
        plan.root.fill(&mut scratch.stack);
        let row = Row { texts, arena: &scratch.arena };
        for (column, slot) in self.columns.iter_mut().zip(&scratch.stack) {
            column.append(slot, &row);
        }
        self.system.append(message, index);
        self.rows += 1;
        Ok(())
    }
}

/// Builders for [`crate::definition::contract::SYSTEM_COLUMNS`].
#[derive(Debug)]
struct SystemColumns {
    received_at: TimestampMicrosecondBuilder,
    /// One name, over and over: kept once.
    stream: StringViewBuilder,
    sequence: Int64Builder,
    index: Int64Builder,
}

impl SystemColumns {
    fn new() -> Self {
        Self {
            received_at: TimestampMicrosecondBuilder::new().with_data_type(utc_timestamp()),
            stream: StringViewBuilder::new().with_deduplicate_strings(),
            sequence: Int64Builder::new(),
            index: Int64Builder::new(),
        }
    }

    fn append(&mut self, message: &RawMessage, index: u32) {
        self.received_at.append_option(message.received_at);
        self.stream.append_value(&*message.stream);
        // No stream lives to see its sequence leave 63 bits.
        self.sequence.append_value(i64::try_from(message.sequence).unwrap_or(i64::MAX));
        self.index.append_value(i64::from(index));
    }

    fn finish(&mut self, arrays: &mut Vec<arrow::array::ArrayRef>) {
        arrays.push(Arc::new(self.received_at.finish()));
        arrays.push(Arc::new(self.stream.finish()));
        arrays.push(Arc::new(self.sequence.finish()));
        arrays.push(Arc::new(self.index.finish()));
    }
}

/// A body as text: not too long, UTF-8, not empty.
fn message_text(body: &[u8]) -> Checked<&str> {
    if body.len() > MESSAGE_BYTES_MAX {
        let reason = format!("the message has {} bytes, more than {MESSAGE_BYTES_MAX}", body.len());
        return Err(Fault::new(rule::MESSAGE_TOO_LARGE, reason));
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| Fault::at_byte(error.valid_up_to(), rule::INVALID_UTF8, "the message is not UTF-8"))?;
    if text.trim_matches(WHITE_SPACE).is_empty() {
        return Err(Fault::new(rule::EMPTY_MESSAGE, "the message is empty"));
    }
    Ok(text)
}
