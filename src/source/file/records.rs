//! A file cut into records: lines, or CSV records, whose fields in quotes may span lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::RECORD_BYTES_MAX;
use crate::definition::pipeline::FileFormat;

/// The records of a file, one at a time.
#[derive(Debug)]
pub(super) struct Records {
    reader: BufReader<File>,
    format: FileFormat,
    record: Vec<u8>,
}

impl Records {
    pub(super) fn new(reader: BufReader<File>, format: FileFormat) -> Self {
        Self { reader, format, record: Vec::new() }
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

    pub(super) fn position(&mut self) -> io::Result<u64> {
        self.reader.stream_position()
    }

    pub(super) fn seek(&mut self, byte: u64) -> io::Result<()> {
        self.reader.seek(SeekFrom::Start(byte)).map(|_| ())
    }

    pub(super) fn skip_byte_order_mark(&mut self) -> io::Result<()> {
        let mut start = Vec::new();
        (&mut self.reader).take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start)?;
        if start == BYTE_ORDER_MARK { Ok(()) } else { self.seek(0) }
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
