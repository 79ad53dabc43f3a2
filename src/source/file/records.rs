//! A file cut into records: lines, or CSV records, whose fields in quotes may span lines.

use std::fmt;
use std::io::{self, BufRead, Read};

use super::RECORD_BYTES_MAX;
use crate::definition::pipeline::FileFormat;

/// The records of a file, one at a time.
pub(super) struct Records {
    reader: Box<dyn BufRead + Send>,
    format: FileFormat,
    record: Vec<u8>,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Records {
    /// Starts at the first record, behind a byte order mark. The header of a CSV file is a record like any other.
    pub(super) fn new(mut reader: Box<dyn BufRead + Send>, format: FileFormat) -> io::Result<Self> {
        let buffered = reader.fill_buf()?;
        if buffered.len() >= BYTE_ORDER_MARK.len() {
            let marked = buffered.starts_with(&BYTE_ORDER_MARK);
            reader.consume(if marked { BYTE_ORDER_MARK.len() } else { 0 });
            return Ok(Self { reader, format, record: Vec::new() });
        }
        let mut start = Vec::new();
        (&mut reader).take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start)?;
        if start != BYTE_ORDER_MARK {
            reader = Box::new(io::Cursor::new(start).chain(reader));
        }
        Ok(Self { reader, format, record: Vec::new() })
    }

    /// Passes over `count` records, fewer if the file ends; returns how many.
    pub(super) fn skip(&mut self, count: u64) -> io::Result<u64> {
        let mut skipped = 0;
        while skipped < count && self.advance()? {
            skipped += 1;
        }
        Ok(skipped)
    }

    /// The record that the last [`Records::advance`] found, without its line ending.
    pub(super) fn record(&self) -> &[u8] {
        &self.record
    }

    /// Reads the next record; false: there is none.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        self.record.clear();
        let mut quotes = Quotes::FieldStart;
        loop {
            let from = self.record.len();
            // Two bytes more than a record, for its line ending.
            let room = RECORD_BYTES_MAX + 2 - from;
            let read = (&mut self.reader).take(room as u64).read_until(b'\n', &mut self.record)?;
            if read == 0 {
                return Ok(from > 0);
            }
            if read == room && !self.record.ends_with(b"\n") {
                self.reader.skip_until(b'\n')?;
                self.record.truncate(RECORD_BYTES_MAX);
                return Ok(true);
            }
            if self.format == FileFormat::Csv {
                quotes = quotes.after(&self.record[from..]);
                if quotes == Quotes::Open && self.record.len() < RECORD_BYTES_MAX {
                    continue;
                }
            }
            strip_line_ending(&mut self.record);
            return Ok(!self.record.is_empty() || !self.at_end()?);
        }
    }

    /// Whether no byte follows.
    pub(super) fn at_end(&mut self) -> io::Result<bool> {
        Ok(self.reader.fill_buf()?.is_empty())
    }
}

/// Where in a CSV record the reading is. Only a quote at the start of a field opens one, so a stray quote elsewhere
/// spoils its own record and not the lines behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    FieldStart,
    Plain,
    Open,
    /// Behind a quote in a field in quotes: it ends the field, or another one follows and both are one.
    Closing,
}

impl Quotes {
    fn after(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |state, byte| match (state, byte) {
            (Self::FieldStart | Self::Closing, b'"') => Self::Open,
            (Self::Open, b'"') => Self::Closing,
            (Self::Open, _) => Self::Open,
            (_, b',') => Self::FieldStart,
            _ => Self::Plain,
        })
    }
}

fn strip_line_ending(record: &mut Vec<u8>) {
    if record.pop_if(|byte| *byte == b'\n').is_some() {
        record.pop_if(|byte| *byte == b'\r');
    }
}

const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];
