//! Raw messages to Arrow rows, strictly and typed: exactly the rows that the encoding promises, or a rejection.
//!
//! The law: every message is decoded on its own; each event of it becomes one row or one [`Rejection`] with place, rule
//! and reason, and neither touches its neighbours. An event is read into scratch slots first and goes to the builders
//! only when all of it is known to be good, so there is nothing to take back. Of several faults the first is named, in
//! the order: the message (size, UTF-8, empty), the text from its start, missing properties, conditions of the contract.
//!
//! A message carries one event, or many, as its header `Content-Type` says (`encoding` has the names). It is taken apart
//! before any event is decoded; where it can't be, all of it is one rejection, of index 0:
//!
//! | message | an event is | indexes count | all of it is rejected if |
//! |---|---|---|---|
//! | one object | the message | | |
//! | JSON array | an element | elements | its text is not JSON, anywhere, or not UTF-8 |
//! | lines of JSON | a line that is not blank | such lines | it has none |
//! | Arrow IPC stream | a row | rows, through all batches | it is not one whole sound stream |
//!
//! and where it is beyond the limits: [`PACKED_BYTES_MAX`], [`EVENTS_MAX`], of Arrow also [`ARROW_BYTES_MAX`] and
//! [`ARROW_VALUES_MAX`]. An empty array, or a stream without rows, holds no event and is counted nowhere.
//!
//! Nothing is rounded, truncated or guessed: numbers are read from their text ([`rule`] lists what is refused).

pub mod arrow;
mod columns;
mod csv;
mod encoding;
mod ignored;
mod json;
mod number;
mod redact;
pub mod rule;
mod scalar;
mod shape;
mod slot;
mod time;

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use ::arrow::array::{ArrayRef, Int64Builder, RecordBatch, StringViewBuilder, TimestampMicrosecondBuilder};
use ::arrow::datatypes::SchemaRef;
use bytes::Bytes;

use crate::definition::contract::{Contract, utc_timestamp};
use crate::types::{Micros, RawMessage, Rejection, Sequence};

pub use self::redact::redacted;

use self::arrow::ObjectCells;
use self::columns::{ColumnBuilder, Row};
use self::csv::Header;
use self::encoding::Encoding;
use self::json::{Reader, WHITE_SPACE};
use self::rule::{Checked, Fault};
use self::shape::Plan;
use self::slot::{Scratch, Texts};

/// The longest event that is read, in bytes: 1 MiB. It is also the longest message of one event.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The longest message of many events that is read, in bytes: 64 MiB, the most that a nats-server lets through.
pub const PACKED_BYTES_MAX: usize = 64 << 20;

/// The most events in one message.
pub const EVENTS_MAX: usize = 65_536;

/// How many bytes an Arrow IPC stream may have once it is unpacked: 64 MiB.
pub const ARROW_BYTES_MAX: u64 = 64 << 20;

/// How many values the columns of an Arrow IPC stream may have, nulls included.
pub const ARROW_VALUES_MAX: u64 = 4 << 20;

/// How deep arrays and objects may be nested, the event itself being level 1.
pub const DEPTH_MAX: usize = 64;

/// The longest number that is read, in characters.
pub const NUMBER_BYTES_MAX: usize = 400;

/// How the body of a message is encoded that does not say so itself, by `Content-Type` or by its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// One JSON document.
    Json,
    /// One CSV record (RFC 4180, without its line ending), unless the message has columns of its own. An empty field is an absent property, `""` the empty text;
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
    /// The columns that the last record had of its own.
    own_header: Option<(Arc<[String]>, Header)>,
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
            own_header: None,
            schema: contract.table_schema(),
            columns,
            system: SystemColumns::new(),
            scratch: Scratch::default(),
            rows: 0,
        }
    }

    /// Decodes one message: appends its good events as rows, in order, and adds a rejection for each bad one. Returns how
    /// many rows were appended. Rows and rejections of a message together are its events; a message that can't be taken
    /// apart counts as one.
    pub fn decode(&mut self, message: &RawMessage, rejections: &mut Vec<Rejection>) -> usize {
        let events = match self.take_apart(message) {
            Ok(events) => events,
            Err(fault) => {
                rejections.push(fault.rejection(0));
                return 0;
            }
        };
        self.set_own_header(message);
        let mut appended = 0;
        let mut count = |index: u32, outcome: Checked<()>| match outcome {
            Ok(()) => appended += 1,
            Err(fault) => rejections.push(fault.rejection(index)),
        };
        match events {
            Events::One => {
                let outcome = self.event(&message.body, RowPlace::of(message, 0));
                count(0, outcome.map_err(|fault| hinted(fault, message)));
            }
            Events::Parts(parts) => {
                for (index, part) in (0..).zip(parts) {
                    count(index, self.event(part, RowPlace::of(message, index)));
                }
            }
            Events::Rows(batches) => {
                let rows = batches.iter().flat_map(|(batch, cells)| (0..batch.num_rows()).map(move |row| (cells, row)));
                for (index, (cells, row)) in (0..).zip(rows) {
                    count(index, self.row(cells, row, RowPlace::of(message, index)));
                }
            }
        }
        appended
    }

    /// Each of these events of a message alone, in the message's encoding: what a dead letter keeps. All of the message where
    /// it has one event, or can't be taken apart.
    pub fn event_bodies(&self, message: &RawMessage, indexes: &[u32]) -> Vec<Bytes> {
        let whole = || message.body.clone();
        let position = |index: &u32| usize::try_from(*index).unwrap_or(usize::MAX);
        match self.take_apart(message) {
            Err(_) | Ok(Events::One) => indexes.iter().map(|_| whole()).collect(),
            Ok(Events::Parts(parts)) => {
                let part = |index| parts.get(position(index)).map(|part| alone(message, part));
                indexes.iter().map(|index| part(index).unwrap_or_else(whole)).collect()
            }
            Ok(Events::Rows(batches)) => {
                let row = |index| {
                    let mut row = position(index);
                    for (batch, _) in &batches {
                        match row.checked_sub(batch.num_rows()) {
                            Some(beyond) => row = beyond,
                            None => return arrow::row_bytes(batch, row).ok(),
                        }
                    }
                    None
                };
                indexes.iter().map(|index| row(index).unwrap_or_else(whole)).collect()
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

    /// The events of a message, none of them decoded yet.
    fn take_apart<'m>(&self, message: &'m RawMessage) -> Checked<Events<'m>> {
        if message.columns.is_some() || matches!(self.layout, Layout::Csv(_)) {
            return Ok(Events::One);
        }
        let encoding = Encoding::of(message)?;
        let body = &message.body[..];
        if encoding == Encoding::Unsaid || (encoding == Encoding::Json && first_byte(body) != Some(b'[')) {
            return Ok(Events::One);
        }
        if body.len() > PACKED_BYTES_MAX {
            return Err(too_large(body, PACKED_BYTES_MAX));
        }
        match encoding {
            Encoding::Arrow => arrow::bound_batches(self, message).map(Events::Rows),
            Encoding::Lines => lines(body).map(Events::Parts),
            Encoding::Unsaid | Encoding::Json => {
                let elements = json::elements(utf8(body)?)?;
                Ok(Events::Parts(elements.into_iter().map(str::as_bytes).collect()))
            }
        }
    }

    /// Matches a record's own columns with the contract, unless they are those of the record before.
    fn set_own_header(&mut self, message: &RawMessage) {
        let Some(columns) = &message.columns else {
            self.own_header = None;
            return;
        };
        if self.own_header.as_ref().is_none_or(|(known, _)| !Arc::ptr_eq(known, columns)) {
            let header = Header::new(columns.to_vec(), &self.plan.root);
            self.own_header = Some((Arc::clone(columns), header));
        }
    }

    fn event(&mut self, body: &[u8], place: RowPlace<'_>) -> Checked<()> {
        let text = event_text(body)?;
        let Self { plan, layout, own_header, scratch, .. } = self;
        scratch.clear();
        match (own_header, layout) {
            (Some((_, header)), _) | (None, Layout::Csv(header)) => header.record(plan, text, scratch)?,
            (None, Layout::Json) => Reader { plan, message: text, scratch }.document(text)?,
        }
        self.settle(text, place)
    }

    /// Judges the event in the scratch as a whole, and appends it as a row. `text` is what its texts are parts of.
    fn settle(&mut self, text: &str, place: RowPlace<'_>) -> Checked<()> {
        let Self { plan, scratch, .. } = self;
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
        self.system.append(place);
        self.rows += 1;
        Ok(())
    }
}

/// An event of a message as a message: a part of the body, unless that, sent with the same headers, would be taken apart.
fn alone(message: &RawMessage, part: &[u8]) -> Bytes {
    let json = matches!(Encoding::of(message), Ok(Encoding::Json));
    match part {
        [b'[', ..] if json => [b"[", part, b"]"].concat().into(),
        part => message.body.slice_ref(part),
    }
}

/// How many events a message holds, roughly and without decoding it, at least one: enough to know when a batch is full.
pub fn event_count_hint(message: &RawMessage) -> usize {
    if message.headers.is_empty() {
        return 1;
    }
    let count = |wanted: u8| message.body.iter().filter(|byte| **byte == wanted).count();
    let hint = match Encoding::of(message) {
        // Each event opens an object. Those inside it are counted too.
        Ok(Encoding::Json) if first_byte(&message.body) == Some(b'[') => count(b'{'),
        Ok(Encoding::Lines) => count(b'\n'),
        Ok(Encoding::Arrow) => arrow::row_count(&message.body).unwrap_or(1),
        _ => 1,
    };
    hint.clamp(1, EVENTS_MAX)
}

/// A message, or one event of it, for reading.
pub fn readable(message: &RawMessage) -> String {
    if let Ok(Encoding::Arrow) = Encoding::of(message)
        && let Ok(batches) = arrow::batches(&message.body)
    {
        let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| arrow::row_text(batch, row)));
        return rows.collect::<Vec<_>>().join("\n");
    }
    String::from_utf8_lossy(&message.body).into_owned()
}

/// A message taken apart.
enum Events<'m> {
    /// The message is the event.
    One,
    /// Each a part of the body.
    Parts(Vec<&'m [u8]>),
    /// Each a row.
    Rows(Vec<(RecordBatch, ObjectCells)>),
}

/// What a row's system columns say.
#[derive(Debug, Clone, Copy)]
struct RowPlace<'a> {
    received_at: Option<Micros>,
    stream: &'a str,
    sequence: Sequence,
    index: u32,
}

impl<'a> RowPlace<'a> {
    fn of(message: &'a RawMessage, index: u32) -> Self {
        Self { received_at: message.received_at, stream: &message.stream, sequence: message.sequence, index }
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

    fn append(&mut self, place: RowPlace<'_>) {
        self.received_at.append_option(place.received_at);
        self.stream.append_value(place.stream);
        // No stream lives to see its sequence leave 63 bits.
        self.sequence.append_value(i64::try_from(place.sequence).unwrap_or(i64::MAX));
        self.index.append_value(i64::from(place.index));
    }

    fn finish(&mut self, arrays: &mut Vec<ArrayRef>) {
        arrays.push(Arc::new(self.received_at.finish()));
        arrays.push(Arc::new(self.stream.finish()));
        arrays.push(Arc::new(self.sequence.finish()));
        arrays.push(Arc::new(self.index.finish()));
    }
}

/// An event's bytes as text: not too long, UTF-8, not empty.
fn event_text(body: &[u8]) -> Checked<&str> {
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(too_large(body, MESSAGE_BYTES_MAX));
    }
    let text = utf8(body)?;
    if text.trim_matches(WHITE_SPACE).is_empty() {
        return Err(empty());
    }
    Ok(text)
}

fn utf8(body: &[u8]) -> Checked<&str> {
    std::str::from_utf8(body)
        .map_err(|error| Fault::at_byte(error.valid_up_to(), rule::INVALID_UTF8, "the message is not UTF-8"))
}

/// The lines that are not blank, without their endings.
fn lines(body: &[u8]) -> Checked<Vec<&[u8]>> {
    let filled = |line: &&[u8]| first_byte(line).is_some();
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').filter(filled).take(EVENTS_MAX + 1).collect();
    match lines.len() {
        0 => Err(empty()),
        count if count > EVENTS_MAX => Err(json::too_many_events()),
        _ => Ok(lines),
    }
}

/// The first byte that is not white space.
fn first_byte(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !WHITE_SPACE.contains(&char::from(*byte)))
}

/// To the fault of an array where one object is due, how to send many events at once.
#[cold]
fn hinted(fault: Box<Fault>, message: &RawMessage) -> Box<Fault> {
    match first_byte(&message.body) {
        Some(b'[') => {
            fault.hinted(rule::NOT_AN_OBJECT, "; a message of many events says `Content-Type: application/json`")
        }
        _ => fault,
    }
}

#[cold]
fn too_large(body: &[u8], most: usize) -> Box<Fault> {
    Fault::new(rule::MESSAGE_TOO_LARGE, format!("the message has {} bytes, more than {most}", body.len()))
}

#[cold]
fn empty() -> Box<Fault> {
    Fault::new(rule::EMPTY_MESSAGE, "the message is empty")
}
