//! The rows of a Parquet file, some at a time: of each row group no more is in memory than the pages at hand.
//!
//! What the contract can't take whatever the values are (a column of another type, a required one that is missing) is an error
//! of the file. What it can't take of single rows is left to the decoder.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;

use crate::decode::arrow::misfits;
use crate::definition::contract::Contract;
use crate::error::{Error, ErrorKind, Result};

/// What is left of a file's rows.
pub(super) struct TypedRows {
    name: Arc<str>,
    reader: ParquetRecordBatchReader,
    /// Read, not handed out yet.
    ready: Option<RecordBatch>,
    /// The mean size of a row that is ready, in bytes.
    row_bytes: usize,
    /// How many rows the file still has, by its footer.
    left: u64,
}

impl TypedRows {
    /// The rows behind the first `skip`, of those columns that the contract has.
    ///
    /// Fails with `Definition` where the columns are not the contract's, and with `Corrupt` where the file is not sound.
    pub(super) fn open(file: &File, name: &Arc<str>, contract: &Contract, skip: u64) -> Result<Self> {
        guarded(name, || Self::opened(file, name, contract, skip))
    }

    fn opened(file: &File, name: &Arc<str>, contract: &Contract, skip: u64) -> Result<Self> {
        let file = file.try_clone().map_err(|error| super::listing::unreadable(name, error))?;
        let damaged = |error| damaged(name, error);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        check_columns(builder.schema(), name, contract)?;
        check_packing(builder.metadata(), name)?;
        let wanted =
            |(_, column): &(usize, &Arc<_>)| contract.column_index(arrow::datatypes::Field::name(column)).is_some();
        let roots: Vec<usize> = builder.schema().fields().iter().enumerate().filter(wanted).map(|(at, _)| at).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let groups = builder.metadata().row_groups().iter();
        let rows: u64 = groups.map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).sum();
        let offset = usize::try_from(skip.min(rows)).unwrap_or(usize::MAX);
        let builder = builder.with_projection(mask).with_batch_size(ROWS_AT_ONCE).with_offset(offset);
        let reader = builder.build().map_err(damaged)?;
        Ok(Self { name: Arc::clone(name), reader, ready: None, row_bytes: 0, left: rows - skip.min(rows) })
    }

    /// How many rows are left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The next rows, at most so many, with their size in bytes; none at the end.
    pub(super) fn next(&mut self, most: usize) -> Result<Option<(RecordBatch, usize)>> {
        if self.left == 0 || most == 0 {
            return Ok(None);
        }
        let rows = match self.ready.take() {
            Some(rows) => rows,
            None => self.load()?,
        };
        let taken = rows.num_rows().min(most);
        if taken < rows.num_rows() {
            self.ready = Some(rows.slice(taken, rows.num_rows() - taken));
        }
        self.left -= taken as u64;
        Ok(Some((rows.slice(0, taken), taken * self.row_bytes)))
    }

    /// Reads to the end, to know that it can be done.
    pub(super) fn exhaust(mut self) -> Result<()> {
        while self.next(usize::MAX)?.is_some() {}
        Ok(())
    }

    fn load(&mut self) -> Result<RecordBatch> {
        let reader = &mut self.reader;
        let rows = match guarded(&self.name, || Ok(reader.next()))? {
            Some(Ok(rows)) => rows,
            Some(Err(error)) => return Err(damaged(&self.name, error)),
            None => return Err(damaged(&self.name, "it has fewer rows than its footer says")),
        };
        if rows.num_rows() == 0 || rows.num_rows() as u64 > self.left {
            return Err(damaged(&self.name, "it has other rows than its footer says"));
        }
        self.row_bytes = rows.get_array_memory_size() / rows.num_rows();
        Ok(rows)
    }
}

/// The reader of damaged files may break off.
fn guarded<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(damaged(name, "it can't be decoded")))
}

fn check_columns(schema: &SchemaRef, name: &str, contract: &Contract) -> Result<()> {
    let mut wrong = misfits(contract, schema);
    for field in schema.fields().iter().filter(|field| contract.column_index(field.name()).is_some()) {
        if has_interval(field.data_type()) {
            let reason = "Parquet's intervals are not read exactly; write ISO 8601 texts such as `P1DT2H`";
            wrong.push(format!("`{}`: {reason}", field.name()));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let doing = format!("source file `{name}` does not fit the contract `{}`", contract.id);
    Err(Error::caused(ErrorKind::Definition, doing, wrong.join("; ")))
}

/// Whether what the pages are packed with is read at all.
fn check_packing(metadata: &ParquetMetaData, name: &str) -> Result<()> {
    let mut columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    let unread = columns.find(|column| {
        !matches!(
            column.compression(),
            Compression::UNCOMPRESSED
                | Compression::SNAPPY
                | Compression::GZIP(_)
                | Compression::LZ4
                | Compression::LZ4_RAW
                | Compression::ZSTD(_)
        )
    });
    let Some(column) = unread else { return Ok(()) };
    let packing = column.compression().to_string();
    let packing = packing.split('(').next().unwrap_or_default();
    let doing = format!(
        "source file `{name}` can't be read: its column `{}` is packed with {packing}, which is not read; write it with \
         ZSTD, SNAPPY, GZIP or LZ4",
        column.column_path().string()
    );
    Err(Error::new(ErrorKind::Definition, doing))
}

fn has_interval(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(_) => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_interval(field.data_type())),
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            has_interval(field.data_type())
        }
        _ => false,
    }
}

/// A file that is not what its writer wrote.
pub(super) fn damaged(name: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::caused(ErrorKind::Corrupt, format!("source file `{name}` is damaged"), cause)
}

const ROWS_AT_ONCE: usize = 1_024;
