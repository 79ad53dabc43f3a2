//! One row of a record batch by itself: what a dead letter keeps of it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, OffsetSizeTrait, StructArray};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;

/// A row as an Arrow IPC stream of its own, with nothing of its neighbours in it: a message that can be sent again.
///
/// # Errors
/// If the row is outside the batch, or of a type that Arrow does not write.
pub fn row_bytes(batch: &RecordBatch, row: usize) -> Result<Bytes, ArrowError> {
    let row = row_alone(batch, row)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &row.schema())?;
    writer.write(&row)?;
    writer.finish()?;
    writer.into_inner().map(Bytes::from)
}

/// A row for reading: a JSON object of its values as texts.
pub fn row_text(batch: &RecordBatch, row: usize) -> String {
    let options = FormatOptions::default();
    let schema = batch.schema();
    let shown = |column: &ArrayRef| {
        if column.is_null(row) {
            return serde_json::Value::Null;
        }
        let text = ArrayFormatter::try_new(column, &options).and_then(|formatter| formatter.value(row).try_to_string());
        text.map_or(serde_json::Value::Null, serde_json::Value::String)
    };
    let value = |(column, field): (&ArrayRef, &FieldRef)| {
        let name = serde_json::Value::from(field.name().as_str());
        format!("{name}:{}", shown(column))
    };
    let values: Vec<String> = batch.columns().iter().zip(schema.fields()).map(value).collect();
    format!("{{{}}}", values.join(","))
}

fn row_alone(batch: &RecordBatch, row: usize) -> Result<RecordBatch, ArrowError> {
    if row >= batch.num_rows() {
        return Err(ArrowError::InvalidArgumentError(format!("no row {row} in {} rows", batch.num_rows())));
    }
    let schema = batch.schema();
    let columns = batch.columns().iter().map(|column| alone(&column.slice(row, 1))).collect::<Result<Vec<_>, _>>()?;
    let fields = schema.fields().iter().zip(&columns).map(|(field, column)| retyped(field, column.data_type()));
    let schema = Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone());
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)
}

/// The same values without what else their buffers hold; without dictionaries, whose values are all of the column's.
fn alone(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match column.data_type() {
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            alone(&take(dictionary.values(), dictionary.keys(), None)?)?
        }
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        DataType::Struct(fields) => {
            let object = column.as_struct();
            let columns = object.columns().iter().map(alone).collect::<Result<Vec<_>, _>>()?;
            let fields = fields.iter().zip(&columns).map(|(field, column)| retyped(field, column.data_type()));
            Arc::new(StructArray::try_new_with_length(
                fields.collect(),
                columns,
                object.nulls().cloned(),
                object.len(),
            )?)
        }
        DataType::List(field) => list_alone(column.as_list::<i32>(), field)?,
        DataType::LargeList(field) => list_alone(column.as_list::<i64>(), field)?,
        DataType::FixedSizeList(field, size) => {
            let list = column.as_fixed_size_list();
            let values = alone(list.values())?;
            let field = retyped(field, values.data_type());
            Arc::new(FixedSizeListArray::try_new_with_length(field, *size, values, list.nulls().cloned(), list.len())?)
        }
        _ => Arc::clone(column),
    })
}

fn list_alone<O: OffsetSizeTrait>(list: &GenericListArray<O>, field: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let offsets = list.offsets();
    let (start, end) = (offsets[0].as_usize(), offsets[list.len()].as_usize());
    let values = alone(&list.values().slice(start, end - start))?;
    let lengths = offsets.lengths();
    let field = retyped(field, values.data_type());
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(GenericListArray::<O>::try_new(field, offsets, values, list.nulls().cloned())?))
}

fn retyped(field: &FieldRef, data_type: &DataType) -> FieldRef {
    if field.data_type() == data_type {
        return Arc::clone(field);
    }
    let plain = Field::new(field.name(), data_type.clone(), field.is_nullable());
    Arc::new(plain.with_metadata(field.metadata().clone()))
}
