//! One dead letter, for a person and as JSON.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};

use super::super::output::on_one_line;
use super::super::status::instant;
use super::mark::{marked, place_in};

/// A row of `milepost.dead_letters`.
#[derive(Debug, Serialize)]
pub(super) struct Letter {
    source: String,
    stream: String,
    sequence: i64,
    index: i64,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<String>,
    rule: String,
    place: String,
    reason: String,
    /// In the order in which they came.
    headers: Vec<(String, String)>,
    /// The event as it came, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The same in base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    /// The event for reading, whatever it is packed in.
    #[serde(skip)]
    readable: String,
    #[serde(skip)]
    bytes: Vec<u8>,
}

impl Letter {
    /// The letters of rows with all columns.
    pub(super) fn of_rows(batch: &RecordBatch) -> Result<Vec<Self>> {
        let text = |name: &str| column(batch, name, &DataType::Utf8);
        let (source, stream, subject, rule) = (text("source")?, text("stream")?, text("subject")?, text("rule")?);
        let (place, reason, headers, readable) = (text("place")?, text("reason")?, text("headers")?, text("text")?);
        let sequence = column(batch, "sequence", &DataType::Int64)?;
        let index = column(batch, "index", &DataType::Int64)?;
        let received = column(batch, "received_at", &crate::definition::contract::utc_timestamp())?;
        let body = column(batch, "body", &DataType::Binary)?;
        let string = |column: &ArrayRef, row: usize| {
            let column = column.as_string::<i32>();
            if column.is_valid(row) { column.value(row).to_owned() } else { String::new() }
        };
        let letter = |row: usize| {
            let bytes = body.as_binary::<i32>().value(row).to_vec();
            let plain = String::from_utf8(bytes.clone()).ok();
            let received = received.as_primitive::<TimestampMicrosecondType>();
            Self {
                source: string(&source, row),
                stream: string(&stream, row),
                sequence: sequence.as_primitive::<Int64Type>().value(row),
                index: index.as_primitive::<Int64Type>().value(row),
                subject: string(&subject, row),
                received_at: received.is_valid(row).then(|| instant(Some(received.value(row)))),
                rule: string(&rule, row),
                place: string(&place, row),
                reason: string(&reason, row),
                headers: serde_json::from_str(&string(&headers, row)).unwrap_or_default(),
                body_base64: plain.is_none().then(|| base64(&bytes)),
                body: plain,
                readable: string(&readable, row),
                bytes,
            }
        };
        Ok((0..batch.num_rows()).map(letter).collect())
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!("{name:<9} {}\n", on_one_line(value)));
            }
        };
        line("source", &self.source);
        line("stream", &format!("{}, sequence {}, event {}", self.stream, self.sequence, self.index));
        line("subject", &self.subject);
        line("received", self.received_at.as_deref().unwrap_or_default());
        line("rule", &self.rule);
        line("place", &self.place);
        line("reason", &self.reason);
        if !self.headers.is_empty() {
            text.push_str("\nheaders\n");
        }
        for (name, value) in &self.headers {
            text.push_str(&format!("  {}: {}\n", on_one_line(name), on_one_line(value)));
        }
        text.push_str(&format!("\nbody, {} bytes\n", self.bytes.len()));
        text.push_str(&self.body_text());
        text
    }

    /// The body with the place marked; what is not text and can't be unpacked, in hexadecimal.
    fn body_text(&self) -> String {
        match &self.body {
            Some(body) => marked(body, place_in(body, &self.place)),
            None if !self.readable.is_empty() && !self.readable.contains(char::REPLACEMENT_CHARACTER) => {
                marked(&self.readable, place_in(&self.readable, &self.place))
            }
            None => hexadecimal(&self.bytes),
        }
    }
}

fn column(batch: &RecordBatch, name: &str, form: &DataType) -> Result<ArrayRef> {
    let other = || Error::internal(format!("`milepost.dead_letters` has no column `{name}` as expected"));
    let found = batch.column_by_name(name).ok_or_else(other)?;
    cast(found, form).map_err(|error| Error::caused(ErrorKind::Internal, format!("reading column `{name}`"), error))
}

/// Sixteen bytes a line: where they stand, what they are, and which of them are letters.
fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, bytes) in bytes.chunks(HEX_BYTES).enumerate() {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let letter = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let letters: String = bytes.iter().map(letter).collect();
        let width = HEX_BYTES * 3;
        text.push_str(&format!("  {:08x}  {:<width$} {letters}\n", line * HEX_BYTES, digits.join(" ")));
    }
    text
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = usize::try_from((bits >> (18 - 6 * place)) & 63).unwrap_or_default();
            text.push(if place <= chunk.len() {
                ALPHABET.get(digit).map_or('=', |&letter| char::from(letter))
            } else {
                '='
            });
        }
    }
    text
}

const HEX_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_base64_with_padding() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe]), "//4=");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_hexadecimal() {
        let shown = hexadecimal(b"\xff\x00abcdefghijklmnop");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "  00000000  ff 00 61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e  ..abcdefghijklmn");
        assert_eq!(lines[1].trim_end(), format!("  00000010  {:<48} op", "6f 70"));
    }
}
