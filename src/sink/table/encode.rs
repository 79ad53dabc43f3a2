//! Rows to Parquet bytes and back.
//!
//! Files hold Parquet's own types only, without Arrow's schema beside them: readers then choose the types they know
//! best (a `Utf8View` is a plain string to them). The types that were published stand in `_current.json`, and
//! [`decode`] gives them back.

use std::io::Write;
use std::sync::Arc;

use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};

use super::manifest::TableMeta;
use super::rows::{FileRows, SortedRows};
use crate::error::{Error, ErrorKind, Result};

/// Writes one file's rows to `output`.
///
/// The file's own metadata say whose it is, and in `milepost.written_epoch`, `.written_clock_us` and
/// `.written_watermark_us` after which epoch its rows were written; what the whole version is true of stands in
/// `_current.json`, because a file whose rows did not change is part of the next version too.
///
/// # Errors
///
/// Kind `Unavailable` if `output` fails, kind `Internal` if the rows can't be encoded.
pub(super) fn encode<W: Write + Send>(
    sorted: &SortedRows,
    file: &FileRows,
    key: &[String],
    meta: &TableMeta,
    group_rows_max: usize,
    output: W,
) -> Result<W> {
    let properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("milepost version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).map_err(failed)?))
        .set_dictionary_enabled(true)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(group_rows_max.max(1)))
        // Lists are written with the names that the Parquet specification asks for.
        .set_coerce_types(true)
        .set_sorting_columns(Some(sorting_columns(sorted.schema(), key)?))
        .set_key_value_metadata(Some(key_values(file, key, meta)?))
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(output, Arc::clone(sorted.schema()), options).map_err(failed)?;
    for batch in sorted.batches(file.range.clone()) {
        writer.write(&batch?).map_err(failed)?;
    }
    writer.into_inner().map_err(failed)
}

/// Reads a file's bytes, which are known to be whole, into batches of `schema`.
///
/// # Errors
///
/// Kind `Corrupt` if they are not a Parquet file of that schema.
pub(super) fn decode(bytes: Bytes, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let corrupt = |error: ParquetError| Error::caused(ErrorKind::Corrupt, "cannot decode a table's file", error);
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build()).map_err(corrupt)?;
    reader
        .map(|batch| batch.and_then(|batch| restore(&batch, schema)))
        .map(|batch| batch.map_err(|error| corrupt(error.into())))
        .collect()
}

fn restore(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(array, field)| cast_with_options(array, field.data_type(), &options));
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>, _>>()?)
}

/// The key's columns up to the first nested one, by their place among Parquet's leaf columns.
fn sorting_columns(schema: &Schema, key: &[String]) -> Result<Vec<SortingColumn>> {
    let parquet = ArrowSchemaConverter::new().with_coerce_types(true).convert(schema).map_err(failed)?;
    let place = |name: &String| {
        let is_nested = schema.field_with_name(name).is_ok_and(|field| field.data_type().is_nested());
        let leaf = parquet.columns().iter().position(|leaf| leaf.path().parts().first() == Some(name))?;
        i32::try_from(leaf).ok().filter(|_| !is_nested)
    };
    let sorting = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: true };
    Ok(key.iter().map_while(place).map(sorting).collect())
}

fn key_values(file: &FileRows, key: &[String], meta: &TableMeta) -> Result<Vec<KeyValue>> {
    let key =
        serde_json::to_string(key).map_err(|error| Error::caused(ErrorKind::Internal, "cannot write a key", error))?;
    let stamp = meta.stamp;
    let values = [
        ("pipeline", Some(meta.pipeline.clone())),
        ("job", Some(meta.job.clone())),
        ("key", Some(key)),
        ("content", Some(file.content.clone())),
        ("written_epoch", Some(stamp.epoch.to_string())),
        ("written_clock_us", stamp.clock.map(|clock| clock.to_string())),
        ("written_watermark_us", stamp.watermark.map(|watermark| watermark.to_string())),
    ];
    Ok(values.map(|(name, value)| KeyValue::new(format!("milepost.{name}"), value)).to_vec())
}

fn failed(error: ParquetError) -> Error {
    let kind = match &error {
        ParquetError::External(cause) if cause.is::<std::io::Error>() => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    Error::caused(kind, "cannot write a table's file", error)
}

/// Small files at little cost; higher levels pay for themselves only in archives.
const ZSTD_LEVEL: i32 = 3;
