//! Rows into Arrow builders. Only complete, accepted events come here, so nothing in it can fail or be taken back.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder,
    IntervalMonthDayNanoBuilder, ListArray, NullBufferBuilder, StringViewBuilder, StructArray,
    Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef, Fields, IntervalMonthDayNano};

use super::slot::{Slot, Texts};

/// What the slots of a row refer to.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) texts: Texts<'a>,
    pub(crate) arena: &'a [Slot],
}

/// A column that grows, by the Arrow type of its kind.
#[derive(Debug)]
pub(crate) enum ColumnBuilder {
    Text(StringViewBuilder),
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Number(Float64Builder),
    Decimal(Decimal128Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Duration(IntervalMonthDayNanoBuilder),
    Object { fields: Fields, columns: Vec<ColumnBuilder>, nulls: NullBufferBuilder },
    Array { field: FieldRef, element: Box<ColumnBuilder>, lengths: Vec<usize>, nulls: NullBufferBuilder },
}

impl ColumnBuilder {
    /// A builder for a type that [`crate::definition::contract::Kind::data_type`] gives.
    pub(crate) fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Utf8View => Self::Text(StringViewBuilder::new()),
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int64 => Self::Integer(Int64Builder::new()),
            DataType::Float64 => Self::Number(Float64Builder::new()),
            DataType::Decimal128(..) => Self::Decimal(Decimal128Builder::new().with_data_type(data_type.clone())),
            DataType::Timestamp(..) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()))
            }
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Time64(_) => Self::Time(Time64MicrosecondBuilder::new()),
            DataType::Interval(_) => Self::Duration(IntervalMonthDayNanoBuilder::new()),
            DataType::Struct(fields) => Self::Object {
                fields: fields.clone(),
                columns: fields.iter().map(|field| Self::new(field.data_type())).collect(),
                nulls: NullBufferBuilder::new(0),
            },
            DataType::List(field) => Self::Array {
                field: Arc::clone(field),
                element: Box::new(Self::new(field.data_type())),
                lengths: Vec::new(),
                nulls: NullBufferBuilder::new(0),
            },
            other => unreachable!("no kind of a contract has the type {other}"),
        }
    }

    /// Appends one value; `Absent` and `Null` are null.
    pub(crate) fn append(&mut self, slot: &Slot, row: &Row<'_>) {
        match (self, slot) {
            (Self::Text(builder), Slot::Text(text)) => builder.append_value(row.texts.get(*text)),
            (Self::Boolean(builder), Slot::Boolean(value)) => builder.append_value(*value),
            (Self::Integer(builder), Slot::Integer(value)) => builder.append_value(*value),
            (Self::Number(builder), Slot::Number(value)) => builder.append_value(*value),
            (Self::Decimal(builder), Slot::Decimal(value)) => builder.append_value(*value),
            (Self::Timestamp(builder), Slot::Integer(value)) => builder.append_value(*value),
            (Self::Date(builder), Slot::Date(value)) => builder.append_value(*value),
            (Self::Time(builder), Slot::Integer(value)) => builder.append_value(*value),
            (Self::Duration(builder), Slot::Duration { months, days, nanoseconds }) => {
                builder.append_value(IntervalMonthDayNano::new(*months, *days, *nanoseconds));
            }
            (Self::Object { columns, nulls, .. }, Slot::Many { start, len }) => {
                for (column, slot) in columns.iter_mut().zip(&row.arena[*start..*start + *len]) {
                    column.append(slot, row);
                }
                nulls.append_non_null();
            }
            (Self::Array { element, lengths, nulls, .. }, Slot::Many { start, len }) => {
                for slot in &row.arena[*start..*start + *len] {
                    element.append(slot, row);
                }
                lengths.push(*len);
                nulls.append_non_null();
            }
            (builder, Slot::Absent | Slot::Null) => builder.append_null(),
            (builder, slot) => unreachable!("{slot:?} in a column of another kind: {builder:?}"),
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Text(builder) => builder.append_null(),
            Self::Boolean(builder) => builder.append_null(),
            Self::Integer(builder) => builder.append_null(),
            Self::Number(builder) => builder.append_null(),
            Self::Decimal(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Duration(builder) => builder.append_null(),
            Self::Object { columns, nulls, .. } => {
                columns.iter_mut().for_each(Self::append_null);
                nulls.append_null();
            }
            Self::Array { lengths, nulls, .. } => {
                lengths.push(0);
                nulls.append_null();
            }
        }
    }

    /// The column so far; the builder starts anew.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Number(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
            Self::Duration(builder) => Arc::new(builder.finish()),
            Self::Object { fields, columns, nulls } => {
                let rows = nulls.len();
                let columns = columns.iter_mut().map(Self::finish).collect();
                let array = StructArray::try_new_with_length(fields.clone(), columns, nulls.finish(), rows);
                Arc::new(array.expect("an object's columns grow together, in the types of its fields"))
            }
            Self::Array { field, element, lengths, nulls } => {
                let offsets = OffsetBuffer::from_lengths(lengths.drain(..));
                let array = ListArray::try_new(Arc::clone(field), offsets, element.finish(), nulls.finish());
                Arc::new(array.expect("an array's elements are of its field's type, null only where it allows them"))
            }
        }
    }
}
