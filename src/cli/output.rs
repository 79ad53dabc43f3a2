//! Results on standard output.

use std::io::{self, Write};

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

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

/// Rows in columns with lines, for reading: bytes as the text that they are, control characters escaped, long values cut
/// off so that the lines fit.
fn table(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let header: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for batch in batches {
        let mut cells = texts(batch)?;
        for (column, array) in batch.columns().iter().enumerate() {
            if !matches!(array.data_type(), DataType::Binary | DataType::LargeBinary | DataType::BinaryView) {
                continue;
            }
            let bytes = cast(array, &DataType::BinaryView).map_err(unprintable)?;
            for (row, value) in cells.iter_mut().zip(bytes.as_binary_view()) {
                if let (Some(cell), Some(Ok(text))) = (row.get_mut(column), value.map(std::str::from_utf8)) {
                    text.clone_into(cell);
                }
            }
        }
        rows.extend(cells.into_iter().map(|row| row.iter().map(|cell| on_one_line(cell)).collect()));
    }
    let widths = fitting_widths(&header, &rows);
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, &width)| format!(" {} ", padded(cell, width)));
        format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
    };
    let rule = format!("+{}+\n", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+"));
    let names: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let mut text = format!("{rule}{}{rule}", line(&names));
    text.extend(rows.iter().map(|row| line(row)));
    if !rows.is_empty() {
        text.push_str(&rule);
    }
    Ok(text.into_bytes())
}

/// As wide as the widest cell of each column; where the lines would be too wide then, the widest columns are cut to one
/// width, but none below what tells values apart.
fn fitting_widths(header: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let natural: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(column, name)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([name.chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let line_width = |cut: usize| natural.iter().map(|&width| width.min(cut) + 3).sum::<usize>() + 1;
    let cut = (CELL_CHARS_MIN..=LINE_CHARS_MAX).rev().find(|&cut| line_width(cut) <= LINE_CHARS_MAX);
    natural.iter().map(|&width| width.min(cut.unwrap_or(CELL_CHARS_MIN))).collect()
}

fn padded(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return format!("{cell:<width$}");
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Control characters would break the columns, or do something to a terminal.
pub(crate) fn on_one_line(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    for letter in cell.chars() {
        if letter.is_control() { text.extend(letter.escape_default()) } else { text.push(letter) }
    }
    text
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

/// How wide the lines of a table may be; what can't be cut any further is wider.
const LINE_CHARS_MAX: usize = 160;
/// What is left of a value in any case.
const CELL_CHARS_MIN: usize = 20;

fn unprintable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::caused(ErrorKind::Internal, "printing the result", error)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BinaryArray, StringArray};

    use super::*;

    #[test]
    fn long_values_are_cut_where_lines_would_be_too_wide_and_bytes_are_shown_as_text() {
        let column = |values: [&str; 2]| std::sync::Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let long = "x".repeat(900);
        let bodies = BinaryArray::from(vec![b"{\"a\":\n1}".as_slice(), &[0xff, 0x00]]);
        let batch = RecordBatch::try_from_iter([
            ("id", column(["E1", "größe"])),
            ("text", column([&long, "short"])),
            ("body", std::sync::Arc::new(bodies) as ArrayRef),
        ]);
        let batch = batch.expect("columns of one length");
        let text = String::from_utf8(table(&batch.schema(), &[batch]).expect("shown")).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(lines.iter().all(|line| line.chars().count() == LINE_CHARS_MAX), "{text}");
        assert!(lines[3].starts_with("| E1    | xxxxxxxxxx") && lines[3].contains("xx… |"), "{text}");
        assert!(lines[3].ends_with(r#"| {"a":\n1} |"#), "{text}");
        assert!(lines[4].starts_with("| größe | short ") && lines[4].ends_with("| ff00      |"), "{text}");
    }

    #[test]
    fn what_fits_is_shown_whole() {
        let column = std::sync::Arc::new(StringArray::from(vec!["y".repeat(150)])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("text", column)]).expect("a column");
        let text = String::from_utf8(table(&batch.schema(), &[batch]).expect("shown")).expect("text");
        assert!(text.contains(&"y".repeat(150)), "{text}");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_right() {
        let cell = |text: &str| text.to_owned();
        let rows = [vec![cell("delivered"), cell("7")], vec![cell("é"), cell("1200")]];
        let text = plain_table(&[cell("state"), cell("lines")], &rows);
        assert_eq!(text, "  state      lines\n  delivered      7\n  é           1200\n");
    }
}
