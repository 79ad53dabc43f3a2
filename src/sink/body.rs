//! Rows as JSON, in one canonical form: the `data` of a change stream's messages, and what their digests are of.
//!
//! Columns in schema order, no white space, nulls written out. Integers and finite doubles are numbers (negative zero
//! is `0.0`; what is not finite is `"NaN"`, `"Infinity"`, `"-Infinity"`), decimals are strings with all digits of their
//! scale, points in time are RFC 3339 with `Z` and six digits of a second (nine in nanosecond columns; without `Z` where the column has no
//! zone), dates `YYYY-MM-DD`, times of day `HH:MM:SS.ffffff`, intervals and durations ISO 8601, binary is
//! lower-case hexadecimal, lists are arrays, structs objects.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, DurationMicrosecondType, Float64Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, Schema, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampNanosecondType, UInt64Type,
};
use arrow::record_batch::RecordBatch;
use arrow::temporal_conversions::{
    date32_to_datetime, time64ns_to_time, timestamp_ns_to_datetime, timestamp_us_to_datetime,
};
use chrono::NaiveDateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::types::Micros;

pub use super::body_schema::row_schema;

/// The rows of a batch, to be written one by one.
#[derive(Debug)]
pub struct Rows {
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    /// The name as JSON with the colon behind it.
    name: String,
    values: Values,
}

/// A column in one of few forms.
#[derive(Debug)]
enum Values {
    Null,
    Boolean(ArrayRef),
    Integer(ArrayRef),
    Unsigned(ArrayRef),
    Double(ArrayRef),
    Decimal(ArrayRef),
    Text(ArrayRef),
    Binary(ArrayRef),
    Micros { array: ArrayRef, zoned: bool },
    Nanos { array: ArrayRef, zoned: bool },
    Date(ArrayRef),
    Time { array: ArrayRef, nanos: bool },
    Interval(ArrayRef),
    Duration(ArrayRef),
    List { array: ArrayRef, items: Box<Values> },
    Struct { array: ArrayRef, columns: Vec<Column> },
}

/// Whether each column of a schema has a JSON form.
///
/// # Errors
/// `Definition`, naming the first column that has none.
pub fn check_schema(schema: &Schema) -> Result<()> {
    Rows::new(&RecordBatch::new_empty(schema.clone().into())).map(|_| ())
}

impl Rows {
    /// The rows of `batch`.
    ///
    /// # Errors
    /// `Definition` where a column has a type without a JSON form.
    pub fn new(batch: &RecordBatch) -> Result<Self> {
        let schema = batch.schema();
        let columns =
            schema.fields().iter().zip(batch.columns()).map(|(field, array)| Column::new(field.name(), array));
        Ok(Self { columns: columns.collect::<Result<_>>()? })
    }

    /// Appends row `row` as a JSON object. `row` is below the batch's number of rows.
    ///
    /// # Errors
    /// `Limit` where a date or time is beyond the calendar.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        write_object(&self.columns, row, out)
    }

    /// The value of a column as text: its JSON form, without quotes. None where it is null.
    ///
    /// # Errors
    /// As [`Rows::write`]; `Internal` where there is no such column.
    pub fn text(&self, column: usize, row: usize) -> Result<Option<String>> {
        let column = self.columns.get(column).ok_or_else(|| Error::internal(format!("there is no column {column}")))?;
        if column.values.is_null(row) {
            return Ok(None);
        }
        if let Values::Text(array) = &column.values {
            return Ok(Some(array.as_string_view().value(row).to_owned()));
        }
        let mut out = Vec::new();
        column.values.write(row, &mut out)?;
        let text =
            String::from_utf8(out).map_err(|error| Error::caused(ErrorKind::Internal, "rendering a key", error))?;
        Ok(Some(text.trim_matches('"').to_owned()))
    }
}

/// A point in time as RFC 3339 with `Z` and six digits of a second.
///
/// # Errors
/// `Limit` where it is beyond the calendar.
pub fn instant(micros: Micros) -> Result<String> {
    let moment = timestamp_us_to_datetime(micros).ok_or_else(|| beyond(micros))?;
    Ok(moment.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

impl Column {
    fn new(name: &str, array: &ArrayRef) -> Result<Self> {
        let values = Values::new(array).map_err(|what| {
            Error::new(
                ErrorKind::Definition,
                format!("column `{name}` of type {what} has no JSON form; cast it in the job's SELECT"),
            )
        })?;
        Ok(Self { name: format!("{}:", serde_json::Value::from(name)), values })
    }
}

impl Values {
    /// Brings a column into one of the forms; an error names the type that has none.
    fn new(array: &ArrayRef) -> Result<Self, String> {
        let to = |target: DataType| cast(array, &target).map_err(|_| format!("`{}`", array.data_type()));
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(Arc::clone(array)),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Self::Integer(to(DataType::Int64)?),
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Self::Unsigned(to(DataType::UInt64)?)
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Double(to(DataType::Float64)?),
            DataType::Decimal128(..) => Self::Decimal(Arc::clone(array)),
            DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => {
                Self::Decimal(to(DataType::Decimal128(38, *scale))?)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text(to(DataType::Utf8View)?),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Binary(to(DataType::BinaryView)?)
            }
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                Self::Nanos { array: Arc::clone(array), zoned: zone.is_some() }
            }
            DataType::Timestamp(_, zone) => Self::Micros {
                array: to(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?,
                zoned: zone.is_some(),
            },
            DataType::Date32 | DataType::Date64 => Self::Date(to(DataType::Date32)?),
            DataType::Time32(unit) | DataType::Time64(unit) => {
                Self::Time { array: to(DataType::Time64(TimeUnit::Nanosecond))?, nanos: *unit == TimeUnit::Nanosecond }
            }
            DataType::Interval(_) => Self::Interval(to(DataType::Interval(IntervalUnit::MonthDayNano))?),
            DataType::Duration(_) => Self::Duration(to(DataType::Duration(TimeUnit::Microsecond))?),
            DataType::Dictionary(_, values) => Self::new(&to((**values).clone())?)?,
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                let array = to(DataType::List(Arc::clone(item)))?;
                let items = Self::new(array.as_list::<i32>().values())?;
                Self::List { array, items: Box::new(items) }
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().zip(array.as_struct().columns());
                let columns =
                    columns.map(|(field, array)| Column::new(field.name(), array).map_err(|error| error.to_string()));
                Self::Struct { array: Arc::clone(array), columns: columns.collect::<Result<_, _>>()? }
            }
            other => return Err(format!("`{other}`")),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Boolean(array)
            | Self::Integer(array)
            | Self::Unsigned(array)
            | Self::Double(array)
            | Self::Decimal(array) => array.is_null(row),
            Self::Text(array)
            | Self::Binary(array)
            | Self::Date(array)
            | Self::Interval(array)
            | Self::Duration(array) => array.is_null(row),
            Self::Micros { array, .. } | Self::Nanos { array, .. } | Self::Time { array, .. } => array.is_null(row),
            Self::List { array, .. } | Self::Struct { array, .. } => array.is_null(row),
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Boolean(array) => write_json(array.as_boolean().value(row), out)?,
            Self::Integer(array) => write_json(value::<Int64Type>(array, row), out)?,
            Self::Unsigned(array) => write_json(value::<UInt64Type>(array, row), out)?,
            Self::Double(array) => write_double(value::<Float64Type>(array, row), out)?,
            Self::Decimal(array) => write_quoted(&decimal(array).value_as_string(row), out),
            Self::Text(array) => write_json(array.as_string_view().value(row), out)?,
            Self::Binary(array) => write_hexadecimal(array.as_binary_view().value(row), out),
            Self::Micros { array, zoned } => {
                let micros = value::<TimestampMicrosecondType>(array, row);
                write_moment(timestamp_us_to_datetime(micros), "%Y-%m-%dT%H:%M:%S%.6f", *zoned, micros, out)?;
            }
            Self::Nanos { array, zoned } => {
                let nanos = value::<TimestampNanosecondType>(array, row);
                write_moment(timestamp_ns_to_datetime(nanos), "%Y-%m-%dT%H:%M:%S%.9f", *zoned, nanos, out)?;
            }
            Self::Date(array) => {
                let days = value::<Date32Type>(array, row);
                write_moment(date32_to_datetime(days), "%Y-%m-%d", false, i64::from(days), out)?;
            }
            Self::Time { array, nanos } => {
                let time = value::<Time64NanosecondType>(array, row);
                let format = if *nanos { "%H:%M:%S%.9f" } else { "%H:%M:%S%.6f" };
                let text = time64ns_to_time(time).ok_or_else(|| beyond(time))?.format(format).to_string();
                write_quoted(&text, out);
            }
            Self::Interval(array) => {
                let interval = value::<IntervalMonthDayNanoType>(array, row);
                write_quoted(&iso_duration(interval.months, interval.days, i128::from(interval.nanoseconds)), out);
            }
            Self::Duration(array) => {
                let nanos = i128::from(value::<DurationMicrosecondType>(array, row)) * 1_000;
                write_quoted(&iso_duration(0, 0, nanos), out);
            }
            Self::List { array, items } => write_list(array, items, row, out)?,
            Self::Struct { columns, .. } => write_object(columns, row, out)?,
        }
        Ok(())
    }
}

fn value<T: ArrowPrimitiveType>(array: &ArrayRef, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

fn decimal(array: &ArrayRef) -> &PrimitiveArray<arrow::datatypes::Decimal128Type> {
    array.as_primitive()
}

fn write_object(columns: &[Column], row: usize, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'{');
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(column.name.as_bytes());
        column.values.write(row, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_list(array: &ArrayRef, items: &Values, row: usize, out: &mut Vec<u8>) -> Result<()> {
    let offsets = array.as_list::<i32>().value_offsets();
    let bound = |at: usize| offsets.get(at).and_then(|offset| usize::try_from(*offset).ok()).unwrap_or_default();
    out.push(b'[');
    for (index, item) in (bound(row)..bound(row + 1)).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        items.write(item, out)?;
    }
    out.push(b']');
    Ok(())
}

fn write_json<T: serde::Serialize>(value: T, out: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(out, &value)
        .map_err(|error| Error::caused(ErrorKind::Internal, "rendering a value as JSON", error))
}

fn write_double(value: f64, out: &mut Vec<u8>) -> Result<()> {
    match value {
        _ if value.is_nan() => write_quoted("NaN", out),
        f64::INFINITY => write_quoted("Infinity", out),
        f64::NEG_INFINITY => write_quoted("-Infinity", out),
        // Adding zero turns negative zero into zero and changes nothing else.
        _ => write_json(value + 0.0, out)?,
    }
    Ok(())
}

/// For text that needs no escapes.
fn write_quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn write_hexadecimal(bytes: &[u8], out: &mut Vec<u8>) {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    write_quoted(&text, out);
}

fn write_moment(moment: Option<NaiveDateTime>, format: &str, zoned: bool, raw: i64, out: &mut Vec<u8>) -> Result<()> {
    let mut text = moment.ok_or_else(|| beyond(raw))?.format(format).to_string();
    if zoned {
        text.push('Z');
    }
    write_quoted(&text, out);
    Ok(())
}

/// `P14M3DT12.5S`; `PT0S` for nothing. Each part has its own sign.
fn iso_duration(months: i32, days: i32, nanos: i128) -> String {
    let mut text = String::from("P");
    for (value, unit) in [(months, 'M'), (days, 'D')] {
        if value != 0 {
            text.push_str(&format!("{value}{unit}"));
        }
    }
    if nanos != 0 || text.len() == 1 {
        let sign = if nanos < 0 { "-" } else { "" };
        let (seconds, fraction) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
        let digits = format!("{fraction:09}");
        let fraction = digits.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        text.push_str(&format!("T{sign}{seconds}{point}{fraction}S"));
    }
    text
}

fn beyond(raw: i64) -> Error {
    Error::new(ErrorKind::Limit, format!("`{raw}` is beyond the calendar"))
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
