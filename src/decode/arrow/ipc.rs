//! A message that is an Arrow IPC stream, as record batches.
//!
//! The law: the stream is walked first, by its own lengths, and nothing is unpacked or allocated before all that it promises
//! is known to lie inside it and inside the limits: frames, buffers, unpacked lengths, rows, values. Only then Arrow's
//! reader reads it, with all of its validation on. What that reader still refuses, or panics on, is a fault of the message.
//!
//! A stream ends with its end marker and nothing behind it: one that was cut off between two batches would otherwise pass
//! for a shorter one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema};
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::{CompressionType, Endianness, MessageHeader, root_as_message};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use super::super::json::too_many_events;
use super::super::rule::{self, Checked, Fault, shorten};
use super::super::{ARROW_BYTES_MAX, ARROW_VALUES_MAX, EVENTS_MAX};
use super::lz4;

/// The record batches of a stream, in order; together they have at most [`EVENTS_MAX`] rows.
pub(crate) fn batches(body: &Bytes) -> Checked<Vec<RecordBatch>> {
    walk(body)?;
    // The reader asserts what it takes for granted in places that no walk can rule out at reasonable length.
    let read = catch_unwind(AssertUnwindSafe(|| read(body)));
    read.unwrap_or_else(|_| Err(invalid("its metadata contradicts itself")))
}

/// How many rows a stream promises; none where it is none.
pub(crate) fn row_count(body: &[u8]) -> Option<usize> {
    walk(body).ok().and_then(|totals| usize::try_from(totals.rows).ok())
}

fn read(body: &Bytes) -> Checked<Vec<RecordBatch>> {
    let mut decoder = StreamDecoder::new();
    let mut rest = Buffer::from(body.clone());
    let mut batches = Vec::new();
    let mut checked = false;
    while !rest.is_empty() {
        let batch = decoder.decode(&mut rest).map_err(|error| invalid(&error.to_string()))?;
        if let Some(schema) = decoder.schema().filter(|_| !checked) {
            check_types(&schema)?;
            checked = true;
        }
        batches.extend(batch);
    }
    decoder.finish().map_err(|error| invalid(&error.to_string()))?;
    Ok(batches)
}

/// Refuses the types that Arrow's reader takes on trust.
fn check_types(schema: &Schema) -> Checked<()> {
    match schema.fields().iter().find(|field| !is_read(field.data_type())) {
        None => Ok(()),
        Some(field) => {
            let shown = shorten(&field.data_type().to_string());
            let reason = format!("the column's type `{shown}` is not read");
            Err(Fault::new(rule::INVALID_ARROW, reason).inside(field.name()))
        }
    }
}

fn is_read(data_type: &DataType) -> bool {
    match data_type {
        DataType::Union(..)
        | DataType::RunEndEncoded(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Map(..) => false,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            is_read(field.data_type())
        }
        DataType::Struct(fields) => fields.iter().all(|field| is_read(field.data_type())),
        DataType::Dictionary(_, value) => is_read(value) && !value.is_nested(),
        _ => true,
    }
}

/// What a stream promises.
#[derive(Debug, Default)]
struct Totals {
    /// Rows of record batches.
    rows: u64,
    /// Values of all columns, nulls included, and of all dictionaries.
    values: u64,
    /// Bytes of all buffers, unpacked.
    bytes: u64,
}

/// Reads the frames: each is `FFFFFFFF`, the length of its metadata, the metadata, and a body as long as they say. The
/// first is the schema, the last the end marker, a length of zero.
fn walk(body: &[u8]) -> Checked<Totals> {
    let mut totals = Totals::default();
    let mut rest = body;
    let mut first = true;
    loop {
        let at = body.len() - rest.len();
        let truncated = || Fault::at_byte(body.len(), rule::INVALID_ARROW, "the stream is cut off");
        let length = frame_length(&mut rest).ok_or_else(truncated)?;
        let length = length
            .ok_or_else(|| Fault::at_byte(at, rule::INVALID_ARROW, "no frame of an Arrow IPC stream begins here"))?;
        if length == 0 {
            return match rest {
                [] if first => Err(invalid("it has no schema")),
                [] => Ok(totals),
                _ => Err(Fault::at_byte(at + FRAME_START, rule::TRAILING_DATA, "something follows the end marker")),
            };
        }
        let metadata = take(&mut rest, length).ok_or_else(truncated)?;
        let message = root_as_message(metadata)
            .map_err(|_| Fault::at_byte(at + FRAME_START, rule::INVALID_ARROW, "the frame's metadata can't be read"))?;
        let size = usize::try_from(message.bodyLength()).map_err(|_| invalid("a body has a negative length"))?;
        let content = take(&mut rest, size).ok_or_else(truncated)?;
        let batch = match message.header_type() {
            MessageHeader::Schema => {
                let schema = message.header_as_schema().filter(|_| first && content.is_empty());
                let schema = schema.ok_or_else(|| invalid("a schema stands where none belongs"))?;
                if schema.endianness() != Endianness::Little {
                    return Err(invalid("its numbers are big-endian"));
                }
                None
            }
            MessageHeader::RecordBatch => message.header_as_record_batch(),
            MessageHeader::DictionaryBatch => {
                message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data())
            }
            _ => return Err(invalid("it has a frame that is neither schema nor batch nor dictionary")),
        };
        if first != (message.header_type() == MessageHeader::Schema) {
            return Err(invalid("it does not begin with its schema"));
        }
        first = false;
        if let Some(batch) = batch {
            let rows = totals.add(&batch, content)?;
            if message.header_type() == MessageHeader::RecordBatch {
                totals.rows += rows;
            }
        }
        totals.check()?;
    }
}

impl Totals {
    /// Adds what a batch promises; returns its rows.
    fn add(&mut self, batch: &arrow::ipc::RecordBatch<'_>, content: &[u8]) -> Checked<u64> {
        let rows = u64::try_from(batch.length()).map_err(|_| invalid("a batch has a negative length"))?;
        for node in batch.nodes().into_iter().flatten() {
            let (length, nulls) = (u64::try_from(node.length()), u64::try_from(node.null_count()));
            let (Ok(length), Ok(nulls)) = (length, nulls) else {
                return Err(invalid("a column has a negative length"));
            };
            if nulls > length {
                return Err(invalid("a column has more nulls than values"));
            }
            self.values = self.values.saturating_add(length);
        }
        let codec = batch.compression().map(|compression| compression.codec());
        for buffer in batch.buffers().into_iter().flatten() {
            let range = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
            let bytes = range.and_then(|(start, length)| content.get(start..start.checked_add(length)?));
            let bytes = bytes.ok_or_else(|| invalid("a buffer lies outside its body"))?;
            self.bytes = self.bytes.saturating_add(unpacked_length(bytes, codec)?);
        }
        Ok(rows)
    }

    fn check(&self) -> Checked<()> {
        if self.rows > EVENTS_MAX as u64 {
            return Err(too_many_events());
        }
        if self.bytes > ARROW_BYTES_MAX {
            return Err(too_large(self.bytes));
        }
        if self.values > ARROW_VALUES_MAX {
            let reason = format!("the message has {} values, more than {ARROW_VALUES_MAX}", self.values);
            return Err(Fault::new(rule::MESSAGE_TOO_LARGE, reason));
        }
        Ok(())
    }
}

/// The fault of a message that takes too many bytes once it is unpacked.
#[cold]
pub(super) fn too_large(bytes: u64) -> Box<Fault> {
    let reason = format!("the message has {bytes} bytes unpacked, more than {ARROW_BYTES_MAX}");
    Fault::new(rule::MESSAGE_TOO_LARGE, reason)
}

/// The length of a buffer as Arrow's reader will have it: compressed ones begin with it, -1 saying that they aren't.
fn unpacked_length(bytes: &[u8], codec: Option<CompressionType>) -> Checked<u64> {
    let Some(codec) = codec.filter(|_| !bytes.is_empty()) else {
        return Ok(bytes.len() as u64);
    };
    let (length, packed) =
        bytes.split_first_chunk::<8>().ok_or_else(|| invalid("a compressed buffer has no length"))?;
    match i64::from_le_bytes(*length) {
        -1 => Ok(packed.len() as u64),
        said => {
            let said = u64::try_from(said).map_err(|_| invalid("a compressed buffer has a negative length"))?;
            let found = if said > 0 && codec == CompressionType::LZ4_FRAME {
                lz4::unpacked_length(packed).ok_or_else(|| invalid("a buffer is not one LZ4 frame"))?
            } else {
                said
            };
            if found != said {
                return Err(invalid("a compressed buffer has another length than it says"));
            }
            Ok(said)
        }
    }
}

/// The length of a frame's metadata: the outer none is a cut-off stream, the inner one no frame.
#[expect(clippy::option_option, reason = "cut off and wrong are two faults")]
fn frame_length(rest: &mut &[u8]) -> Option<Option<usize>> {
    let marker = take(rest, CONTINUATION.len())?;
    if marker != CONTINUATION {
        return Some(None);
    }
    let length: [u8; 4] = take(rest, 4)?.try_into().ok()?;
    Some(usize::try_from(i32::from_le_bytes(length)).ok())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

#[cold]
fn invalid(what: &str) -> Box<Fault> {
    Fault::new(rule::INVALID_ARROW, format!("not an Arrow IPC stream that is read: {}", shorten(what)))
}

const CONTINUATION: [u8; 4] = [0xff; 4];
/// The marker and the length of a frame's metadata.
const FRAME_START: usize = 8;
