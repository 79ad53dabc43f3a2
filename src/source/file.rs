//! NDJSON and CSV files, read record by record: sequence n is the n-th record.
//!
//! The law: every record of the file is a message, in order, and its body is the record's bytes without the line
//! ending (LF or CRLF). An empty line is a record too (it ends as a dead letter), so that nothing disappears; only the
//! one at the very end of a file is nothing. A byte order mark at the start is skipped.
//!
//! Reading is buffered and blocks for as long as the disk takes. It has no await in it, so a future that is dropped has
//! either not begun or is complete, and nothing is lost between the two.

mod records;

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use sha2::{Digest, Sha256};

use self::records::Records;
use crate::decode::Format;
use crate::definition::pipeline::FileFormat;
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Read, ReadLimit, Rest, Source};
use crate::types::{RawMessage, Sequence};

/// The longest record that is kept whole, in bytes: 16 MiB. Of a longer line the first 16 MiB are the message, which is
/// rejected as too large; the rest stays in the file only. A CSV record that grows beyond it, as after a quote that is
/// never closed, ends with its line, and the next line is a record again.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// One read ends early once it holds this many bytes: 64 MiB.
pub const READ_BYTES_MAX: usize = 64 << 20;

/// A file as a source. The file must not change while it is read; [`Source::identity`] tells whether it did.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    format: FileFormat,
    stream: Arc<str>,
    subject: Arc<str>,
    header: Option<Vec<String>>,
    /// Where the first record starts, behind byte order mark and header.
    first_byte: u64,
    records: Records,
    /// The first sequence that the next read gives.
    next: Sequence,
    /// A read or seek failed half-way: the next one finds record `next` again.
    adrift: bool,
}

impl FileSource {
    /// Opens a file; `display_name` becomes the messages' stream. Of a CSV file the header line is read.
    ///
    /// Fails with `Definition` if there is no such file, it is a directory, or its header is missing, is not UTF-8 or
    /// names a column twice, and with `Unavailable` if it cannot be read.
    pub fn open(path: &Path, display_name: &str, format: FileFormat) -> Result<Self> {
        let mut records = Records::new(open(path)?, format);
        records.skip_byte_order_mark().map_err(|error| unreadable(path, error))?;
        let header = match format {
            FileFormat::Ndjson => None,
            FileFormat::Csv => {
                let read = records.advance().map_err(|error| unreadable(path, error))?;
                Some(parse_header(if read { records.record() } else { b"" }, path)?)
            }
        };
        let first_byte = records.position().map_err(|error| unreadable(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            format,
            stream: display_name.into(),
            subject: "".into(),
            header,
            first_byte,
            records,
            next: 1,
            adrift: false,
        })
    }

    /// How the messages are to be decoded.
    pub fn format(&self) -> Format {
        match &self.header {
            None => Format::Json,
            Some(header) => Format::Csv { header: header.clone() },
        }
    }

    fn read_now(&mut self, limit: ReadLimit) -> Result<Read> {
        if self.adrift {
            self.seek_now(self.next)?;
        }
        let start = self.next;
        self.take(limit).map_err(|error| {
            self.next = start;
            self.adrift = true;
            unreadable(&self.path, error)
        })
    }

    fn take(&mut self, limit: ReadLimit) -> io::Result<Read> {
        let mut read = Read::default();
        let mut bytes = 0;
        let before = limit.before.unwrap_or(Sequence::MAX);
        while read.messages.len() < limit.messages && self.next < before && bytes < READ_BYTES_MAX {
            if !self.records.advance()? {
                break;
            }
            bytes += self.records.record().len();
            read.messages.push(RawMessage {
                stream: Arc::clone(&self.stream),
                sequence: self.next,
                subject: Arc::clone(&self.subject),
                received_at: None,
                headers: Vec::new(),
                body: Bytes::copy_from_slice(self.records.record()),
            });
            self.next += 1;
        }
        read.next = self.next;
        read.rest = if self.records.at_end()? { Rest::End } else { Rest::More };
        Ok(read)
    }

    fn seek_now(&mut self, next: Sequence) -> Result<()> {
        self.next = next.max(1);
        self.adrift = true;
        let skipped = skip(&mut self.records, self.first_byte, self.next - 1);
        if skipped.map_err(|error| unreadable(&self.path, error))? < self.next - 1 {
            let doing = format!("file `{}` ends before record {next}, from which to read on", self.path.display());
            return Err(Error::new(ErrorKind::Corrupt, doing));
        }
        self.adrift = false;
        Ok(())
    }

    /// Counts in a file handle of its own, so that reading goes on where it was.
    fn end_now(&self) -> Result<Sequence> {
        let mut records = Records::new(open(&self.path)?, self.format);
        let count = skip(&mut records, self.first_byte, Sequence::MAX - 1);
        count.map(|count| count + 1).map_err(|error| unreadable(&self.path, error))
    }

    fn identity_now(&self) -> Result<String> {
        let mut digest = Sha256::new();
        let size = io::copy(&mut open(&self.path)?, &mut digest).map_err(|error| unreadable(&self.path, error))?;
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("{} {size} bytes sha256:{digest}", self.stream))
    }
}

impl Source for FileSource {
    fn read(&mut self, limit: ReadLimit) -> BoxFuture<'_, Result<Read>> {
        async move { self.read_now(limit) }.boxed()
    }

    /// Reads the file again up to `next`. Beyond the end it fails with `Corrupt`, and so does every read after it.
    fn seek(&mut self, next: Sequence) -> BoxFuture<'_, Result<()>> {
        async move { self.seek_now(next) }.boxed()
    }

    /// Reads the whole file.
    fn end(&mut self) -> BoxFuture<'_, Result<Sequence>> {
        async move { self.end_now() }.boxed()
    }

    /// Nobody watches a file's lag.
    fn acknowledge(&mut self, _next: Sequence) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    /// The display name, the size in bytes, and the SHA-256 of the content. Reads the whole file.
    fn identity(&mut self) -> BoxFuture<'_, Result<String>> {
        async move { self.identity_now() }.boxed()
    }
}

/// Starts at `first_byte` and passes over `count` records, fewer if the file ends; returns how many.
fn skip(records: &mut Records, first_byte: u64, count: u64) -> io::Result<u64> {
    records.seek(first_byte)?;
    let mut skipped = 0;
    while skipped < count && records.advance()? {
        skipped += 1;
    }
    Ok(skipped)
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    if file.metadata().map_err(|error| unreadable(path, error))?.is_dir() {
        return Err(Error::new(ErrorKind::Definition, format!("source file `{}` is a directory", path.display())));
    }
    Ok(BufReader::with_capacity(BUFFER_BYTES, file))
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::Definition,
        _ => ErrorKind::Unavailable,
    };
    Error::caused(kind, format!("reading source file `{}`", path.display()), error)
}

fn parse_header(line: &[u8], path: &Path) -> Result<Vec<String>> {
    let wrong = |what: &str| Error::new(ErrorKind::Definition, format!("header of `{}` {what}", path.display()));
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line);
    let header = match reader.records().next() {
        Some(Ok(header)) => header.iter().map(str::to_owned).collect::<Vec<_>>(),
        Some(Err(error)) => {
            let doing = format!("reading the header of `{}`", path.display());
            return Err(Error::caused(ErrorKind::Definition, doing, error));
        }
        None => return Err(wrong("is missing: the first line must name the columns")),
    };
    let twice = header.iter().enumerate().find(|(at, name)| header[..*at].contains(name));
    match twice {
        Some((_, name)) => Err(wrong(&format!("names column `{name}` twice"))),
        None => Ok(header),
    }
}

const BUFFER_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests;
