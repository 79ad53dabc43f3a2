//! One file of a source, open, at a position.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::READ_BYTES_MAX;
use super::listing::unreadable;
use super::records::Records;
use super::typed::{TypedRows, damaged};
use super::unpack;
use crate::definition::contract::Contract;
use crate::definition::pipeline::{FileForm, FileFormat, Packing};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{RawMessage, RawRows, Sequence};

/// A file that is being read. It keeps what it was opened as, whatever takes its name meanwhile.
pub(super) struct OpenPart {
    name: Arc<str>,
    subject: Arc<str>,
    packing: Packing,
    rows: Rows,
}

enum Rows {
    /// Lines or CSV records; these with the names of their fields.
    Text(Records, Option<Arc<[String]>>),
    Typed(TypedRows),
}

/// What was read at once.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) messages: Vec<RawMessage>,
    pub(super) rows: Vec<RawRows>,
    pub(super) count: u64,
}

impl OpenPart {
    /// Opens what `file` holds, behind its first `skip` records. The header of a CSV file is read.
    ///
    /// Fails with `Definition` where a CSV header is missing, is not UTF-8 or names a column twice, and where a Parquet file
    /// does not fit the contract; with `Corrupt` where the file is damaged or has not so many records.
    pub(super) fn open(file: &File, name: &str, form: FileForm, contract: &Contract, skip: u64) -> Result<Self> {
        let name: Arc<str> = name.into();
        let failed = |error| broken(&name, form.packing, error);
        let records = || Records::new(unpack::content(file, form.packing)?, form.format);
        let (rows, skipped) = match form.format {
            FileFormat::Parquet => {
                let rows = TypedRows::open(file, &name, contract, 0)?;
                let skipped = skip.min(rows.left());
                (
                    Rows::Typed(if skipped == 0 { rows } else { TypedRows::open(file, &name, contract, skipped)? }),
                    skipped,
                )
            }
            FileFormat::Ndjson => {
                let mut records = records().map_err(failed)?;
                let skipped = records.skip(skip).map_err(failed)?;
                (Rows::Text(records, None), skipped)
            }
            FileFormat::Csv => {
                let mut records = records().map_err(failed)?;
                let found = records.advance().map_err(failed)?;
                let columns = parse_header(if found { records.record() } else { b"" }, &name)?;
                let skipped = records.skip(skip).map_err(failed)?;
                (Rows::Text(records, Some(columns.into())), skipped)
            }
        };
        if skipped < skip {
            let doing = format!("source file `{name}` ends after {skipped} records, where {skip} were read before");
            return Err(Error::new(ErrorKind::Corrupt, doing));
        }
        Ok(Self { name, subject: "".into(), packing: form.packing, rows })
    }

    /// The size of a file and the digest of its bytes. With `sound`, all that is packed in it is read too: a file is taken
    /// whole, or not at all.
    pub(super) fn digest(
        file: &File,
        name: &str,
        form: FileForm,
        contract: &Contract,
        sound: bool,
    ) -> Result<(u64, String)> {
        let digest = unpack::digest(file, form.packing, sound).map_err(|error| broken(name, form.packing, error))?;
        if sound && form.format == FileFormat::Parquet {
            TypedRows::open(file, &name.into(), contract, 0)?.exhaust()?;
        }
        Ok(digest)
    }

    /// The next records, the first of them with the sequence `next`: at most so many, and none at or beyond `before`.
    pub(super) fn take(&mut self, most: usize, next: Sequence, before: Sequence) -> Result<Taken> {
        let mut taken = Taken::default();
        let most = most.min(usize::try_from(before.saturating_sub(next)).unwrap_or(usize::MAX));
        let mut bytes = 0;
        match &mut self.rows {
            Rows::Typed(rows) => {
                while bytes < READ_BYTES_MAX
                    && let Some((batch, size)) = rows.next(most - usize_of(taken.count))?
                {
                    bytes += size;
                    let first = next + taken.count;
                    taken.count += batch.num_rows() as u64;
                    taken.rows.push(RawRows { stream: Arc::clone(&self.name), first, rows: batch });
                }
            }
            Rows::Text(records, columns) => {
                while taken.messages.len() < most
                    && bytes < READ_BYTES_MAX
                    && records.advance().map_err(|error| broken(&self.name, self.packing, error))?
                {
                    bytes += records.record().len();
                    taken.messages.push(RawMessage {
                        stream: Arc::clone(&self.name),
                        sequence: next + taken.count,
                        subject: Arc::clone(&self.subject),
                        received_at: None,
                        headers: Vec::new(),
                        columns: columns.clone(),
                        body: Bytes::copy_from_slice(records.record()),
                    });
                    taken.count += 1;
                }
            }
        }
        Ok(taken)
    }

    /// Whether no record follows.
    pub(super) fn at_end(&mut self) -> Result<bool> {
        match &mut self.rows {
            Rows::Text(records, _) => records.at_end().map_err(|error| broken(&self.name, self.packing, error)),
            Rows::Typed(rows) => Ok(rows.left() == 0),
        }
    }
}

/// Why a file's bytes can't be read: the machine's fault, or, where they are packed, their own.
fn broken(name: &str, packing: Packing, error: io::Error) -> Error {
    match packing {
        Packing::Gzip | Packing::Zstd if error.raw_os_error().is_none() => damaged(name, error),
        _ => unreadable(name, error),
    }
}

fn parse_header(line: &[u8], name: &str) -> Result<Vec<String>> {
    let wrong = |what: &str| Error::new(ErrorKind::Definition, format!("header of `{name}` {what}"));
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line);
    let header = match reader.records().next() {
        Some(Ok(header)) => header.iter().map(str::to_owned).collect::<Vec<_>>(),
        Some(Err(error)) => {
            return Err(Error::caused(ErrorKind::Definition, format!("reading the header of `{name}`"), error));
        }
        None => return Err(wrong("is missing: the first line must name the columns")),
    };
    let twice = header.iter().enumerate().find(|(at, name)| header[..*at].contains(name));
    match twice {
        Some((_, column)) => Err(wrong(&format!("names column `{column}` twice"))),
        None => Ok(header),
    }
}

fn usize_of(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
