//! One CSV record (RFC 4180) to slots, its fields found by the file's header.
//!
//! The `csv` crate reads what RFC 4180 forbids (a quote that is never closed, text behind a closing quote) and does not
//! tell `""` from nothing. Here the first is refused and the second kept apart: an empty field without quotes is an
//! absent property, an empty field in quotes is a value, the empty text. The tests hold the crate against this reader.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::ignored::duplicate_key;
use super::json::{Reader, unknown_property};
use super::rule::{self, Checked, Fault, shorten};
use super::scalar;
use super::shape::{Form, Plan, Property, Shape};
use super::slot::{Scratch, Slot};
use crate::definition::contract::Kind;

/// The columns of a file, matched with a contract.
#[derive(Debug)]
pub(crate) struct Header {
    names: Vec<String>,
    /// The property of each column; none for one that the contract does not name.
    properties: Vec<Option<usize>>,
}

impl Header {
    pub(crate) fn new(names: Vec<String>, shape: &Shape) -> Self {
        let properties = names.iter().map(|name| shape.find(name, usize::MAX)).collect();
        Self { names, properties }
    }

    /// Reads a whole message, one record, into the bottom of the stack. Required properties, conditions and defaults are
    /// left to the caller.
    pub(crate) fn record(&self, plan: &Plan, message: &str, scratch: &mut Scratch) -> Checked<()> {
        self.check_count(message)?;
        scratch.open(plan.root.properties.len());
        for ((cell, name), at) in cells(message).zip(&self.names).zip(&self.properties) {
            let cell = cell?;
            match at {
                Some(at) => {
                    let property = &plan.root.properties[*at];
                    let read = read_cell(plan, property, cell, message, scratch);
                    let read = read.and_then(|slot| put(&mut scratch.stack[*at], slot, name));
                    read.map_err(|fault| fault.inside(name))?;
                }
                None if plan.additional => {}
                None => return Err(unknown_property(name)),
            }
        }
        Ok(())
    }

    /// Finds all fields first: in a record with one too many, every other message would mislead.
    fn check_count(&self, message: &str) -> Checked<()> {
        let mut count = 0;
        for cell in cells(message) {
            cell?;
            count += 1;
        }
        if count == self.names.len() {
            return Ok(());
        }
        Err(Fault::new(rule::FIELD_COUNT, format!("the record has {count} fields, the header {}", self.names.len())))
    }
}

fn put(place: &mut Slot, slot: Slot, name: &str) -> Checked<()> {
    if !slot.is_absent() && !place.is_absent() {
        return Err(duplicate_key(name));
    }
    if !slot.is_absent() {
        *place = slot;
    }
    Ok(())
}

fn read_cell<'b>(
    plan: &Plan,
    property: &Property,
    cell: Cell<'b>,
    message: &'b str,
    scratch: &mut Scratch,
) -> Checked<Slot> {
    if cell.text.is_empty() && !cell.quoted {
        // CSV has no null; an empty field is the only way to write one where the contract requires the property.
        if property.required && property.nullable {
            return Reader { plan, message, scratch }.allowed(property, Slot::Null, "");
        }
        return Ok(Slot::Absent);
    }
    let text = cell.unquoted();
    let slot = match &property.form {
        Form::Scalar(kind @ Kind::Text { .. }) => {
            let slot = Slot::Text(scratch.text(message, &text));
            bounded(plan, kind, slot, message, scratch)?
        }
        Form::Scalar(kind) => bounded(plan, kind, scalar::from_text(kind, &text)?, message, scratch)?,
        Form::Object(_) | Form::Array { .. } => return read_json(plan, property, &text, scratch),
    };
    Reader { plan, message, scratch }.allowed(property, slot, &text)
}

fn bounded(plan: &Plan, kind: &Kind, slot: Slot, message: &str, scratch: &mut Scratch) -> Checked<Slot> {
    scalar::check_bounds(kind, &slot, &Reader { plan, message, scratch }.texts())?;
    Ok(slot)
}

/// An object or array stands in its cell as JSON.
fn read_json(plan: &Plan, property: &Property, text: &str, scratch: &mut Scratch) -> Checked<Slot> {
    let json: &RawValue = serde_json::from_str(text)
        .map_err(|error| Fault::new(rule::INVALID_JSON, format!("`{}` is not JSON: {error}", shorten(text))))?;
    Reader { plan, message: "", scratch }.value(property, json.get(), 1).map_err(Fault::of_part)
}

/// A field as it stands in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell<'a> {
    /// Without the quotes around it; quotes in it are still doubled.
    text: &'a str,
    quoted: bool,
}

impl<'a> Cell<'a> {
    fn unquoted(self) -> Cow<'a, str> {
        if self.quoted && self.text.contains('"') {
            Cow::Owned(self.text.replace("\"\"", "\""))
        } else {
            Cow::Borrowed(self.text)
        }
    }
}

/// The fields of one record; the first fault ends them.
fn cells(record: &str) -> impl Iterator<Item = Checked<Cell<'_>>> {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let start = next.take()?;
        Some(cell(record, start).map(|(cell, end)| {
            next = (end < record.len()).then_some(end + 1);
            cell
        }))
    })
}

/// The field that starts at `start`, and the offset of the comma or the end behind it.
fn cell(record: &str, start: usize) -> Checked<(Cell<'_>, usize)> {
    let bytes = record.as_bytes();
    if bytes.get(start) != Some(&b'"') {
        let length = bytes[start..].iter().position(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'));
        let end = length.map_or(record.len(), |length| start + length);
        return match bytes.get(end) {
            None | Some(b',') => Ok((Cell { text: &record[start..end], quoted: false }, end)),
            Some(b'"') => Err(Fault::at_byte(end, rule::INVALID_CSV, "a quote inside a field without quotes")),
            Some(_) => Err(Fault::at_byte(end, rule::TRAILING_DATA, "a second line follows the record")),
        };
    }
    let mut end = start + 1;
    loop {
        let quote = bytes[end..].iter().position(|byte| *byte == b'"').map(|length| end + length);
        let Some(quote) = quote else {
            return Err(Fault::at_byte(start, rule::INVALID_CSV, "a quote that is never closed"));
        };
        match bytes.get(quote + 1) {
            Some(b'"') => end = quote + 2,
            None | Some(b',') => return Ok((Cell { text: &record[start + 1..quote], quoted: true }, quote + 1)),
            Some(_) => return Err(Fault::at_byte(quote + 1, rule::INVALID_CSV, "text behind a closing quote")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(record: &str) -> Result<Vec<String>, &'static str> {
        cells(record)
            .map(|cell| cell.map(|cell| cell.unquoted().into_owned()).map_err(|fault| fault.rejection(0).rule))
            .collect()
    }

    #[test]
    fn fields_are_those_of_rfc_4180() {
        let check = |record: &str, expected: Result<&[&str], &str>| {
            assert_eq!(
                texts(record),
                expected.map(|texts| texts.iter().map(|text| (*text).to_owned()).collect()),
                "{record}"
            );
        };
        check("a,b,c", Ok(&["a", "b", "c"]));
        check(",", Ok(&["", ""]));
        check("a, b ,", Ok(&["a", " b ", ""]));
        check("\"a,b\",\"\",\"c\"\"d\"", Ok(&["a,b", "", "c\"d"]));
        check("\"two\r\nlines\",x", Ok(&["two\r\nlines", "x"]));
        check("\"ä\",ö", Ok(&["ä", "ö"]));
        check("\"a", Err(rule::INVALID_CSV));
        check("\"a\"b", Err(rule::INVALID_CSV));
        check("5\" pipe,x", Err(rule::INVALID_CSV));
        check("a,b\nc,d", Err(rule::TRAILING_DATA));
    }

    #[test]
    fn empty_field_in_quotes_is_told_from_an_empty_one() {
        let quoted: Vec<_> = cells("\"\",").map(|cell| cell.unwrap().quoted).collect();
        assert_eq!(quoted, [true, false]);
    }

    proptest! {
        #[test]
        fn accepted_record_has_the_fields_that_the_csv_crate_finds(record in "[ab,\" \r\n]{1,12}") {
            if let Ok(texts) = texts(&record) {
                let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(record.as_bytes());
                let oracle: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
                prop_assert_eq!(oracle.len(), 1);
                prop_assert_eq!(oracle[0].iter().collect::<Vec<_>>(), texts);
            }
        }

        #[test]
        fn record_that_the_csv_crate_writes_reads_back(fields in prop::collection::vec("[ab,\" \r\n]{0,4}", 1..5)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(&fields).unwrap();
            let written = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            prop_assert_eq!(texts(written.strip_suffix('\n').unwrap()).unwrap(), fields);
        }
    }
}
