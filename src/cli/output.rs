//! Results on standard output.

use std::io::{self, Write};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_schema;

use crate::error::{Error, ErrorKind, Result};
use crate::sink::body::Rows;

use super::options::Format;
use super::{Failure, Outcome};

/// Prints rows in the format that was asked for.
pub(crate) fn print_rows(schema: &SchemaRef, batches: &[RecordBatch], format: Format) -> Outcome {
    let bytes = match format {
        Format::Table => table(schema, batches)?,
        Format::Csv => csv_lines(schema, batches)?,
        Format::Json => json_lines(batches)?,
        Format::Parquet => parquet(schema, batches)?,
    };
    print_bytes(&bytes)
}

/// Prints bytes; a reader that went away is no failure.
pub(crate) fn print_bytes(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(Error::caused(ErrorKind::Unavailable, "writing to standard output", error)))
        }
        _ => Ok(()),
    }
}

/// Prints a line of text.
pub(crate) fn print_line(text: &str) -> Outcome {
    print_bytes(format!("{text}\n").as_bytes())
}

/// Prints a JSON value over several lines.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::caused(ErrorKind::Internal, "writing JSON", error))?;
    print_line(&text)
}

fn table(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let text = pretty_format_batches_with_schema(std::sync::Arc::clone(schema), batches).map_err(unprintable)?;
    Ok(format!("{text}\n").into_bytes())
}

fn csv_lines(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(schema.fields().iter().map(|field| field.name())).map_err(unprintable)?;
    for batch in batches {
        for row in texts(batch)? {
            writer.write_record(row).map_err(unprintable)?;
        }
    }
    writer.into_inner().map_err(|error| unprintable(error.into_error()))
}

fn json_lines(batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for batch in batches {
        let rows = Rows::new(batch)?;
        for row in 0..batch.num_rows() {
            rows.write(row, &mut bytes)?;
            bytes.push(b'\n');
        }
    }
    Ok(bytes)
}

fn parquet(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let properties = ::parquet::file::properties::WriterProperties::builder()
        .set_compression(::parquet::basic::Compression::ZSTD(::parquet::basic::ZstdLevel::default()))
        .build();
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(Vec::new(), std::sync::Arc::clone(schema), Some(properties))
            .map_err(unprintable)?;
    for batch in batches {
        writer.write(batch).map_err(unprintable)?;
    }
    writer.into_inner().map_err(unprintable)
}

/// Every value as text; null is empty.
pub(crate) fn texts(batch: &RecordBatch) -> Result<Vec<Vec<String>>> {
    let options = FormatOptions::default();
    let columns = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unprintable)?;
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()).collect())
}

/// Rows in aligned columns without lines; numbers to the right.
pub(crate) fn plain_table(header: &[String], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.chain(header.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let numeric: Vec<bool> = (0..header.len())
        .map(|column| {
            rows.iter().all(|row| row.get(column).is_none_or(|cell| cell.parse::<f64>().is_ok() || cell.is_empty()))
        })
        .collect();
    let line = |cells: &[String]| {
        let cells =
            cells.iter().zip(&widths).zip(&numeric).map(|((cell, &width), &right)| {
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
        format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    std::iter::once(line(header)).chain(rows.iter().map(|row| line(row))).collect()
}

fn unprintable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::caused(ErrorKind::Internal, "printing the result", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_right() {
        let cell = |text: &str| text.to_owned();
        let rows = [vec![cell("delivered"), cell("7")], vec![cell("é"), cell("1200")]];
        let text = plain_table(&[cell("state"), cell("lines")], &rows);
        assert_eq!(text, "  state      lines\n  delivered      7\n  é           1200\n");
    }
}
