//! A contract: the versioned schema of a source, compiled from the documented subset of JSON Schema 2020-12.

mod compile;
mod condition;
mod constant;
mod property;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};

use crate::types::Micros;

/// A compiled contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    /// `$id`, or the file's name.
    pub id: String,
    /// `title` and `description`, joined; for `check`.
    pub description: Option<String>,
    /// The columns in the order of `properties`.
    pub columns: Vec<Column>,
    /// `allOf`: what holds only if another column has a given value.
    pub conditions: Vec<Condition>,
    /// Whether properties that the contract does not name are accepted (and ignored). False rejects them.
    pub additional: bool,
}

/// One property of a contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The property's name, also the column's.
    pub name: String,
    /// What values it may have.
    pub kind: Kind,
    /// Absence is a rejection.
    pub required: bool,
    /// An explicit `null` is accepted. An absent optional property is null (or the default) whatever this says.
    pub nullable: bool,
    /// The value of an absent property.
    pub default: Option<Value>,
    /// `enum` or `const`: the only values allowed.
    pub allowed: Option<Vec<Value>>,
    /// `description`.
    pub description: Option<String>,
}

/// What values a property may have, and the Arrow type they become.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A string (`Utf8View`); `max_length` in characters.
    Text {
        /// The longest text, in characters.
        max_length: Option<usize>,
    },
    /// `true` or `false`.
    Boolean,
    /// An integer within bounds, both included (`Int64`).
    Integer {
        /// The least value.
        minimum: Option<i64>,
        /// The greatest value.
        maximum: Option<i64>,
    },
    /// A finite double (`Float64`).
    Number {
        /// The least value.
        minimum: Option<f64>,
        /// The greatest value.
        maximum: Option<f64>,
    },
    /// A decimal, from a JSON number or string, never rounded: what does not fit is rejected.
    /// Bounds are unscaled values at `scale`, both included.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits behind the point.
        scale: i8,
        /// The least value, unscaled.
        minimum: Option<i128>,
        /// The greatest value, unscaled.
        maximum: Option<i128>,
    },
    /// `date-time` with an offset (`Timestamp(µs, UTC)`), optionally bounded, both included. More than six digits of
    /// a second are rejected unless `nanoseconds`: then (and only then) digits seven to nine are accepted and cut off.
    Timestamp {
        /// The earliest instant.
        minimum: Option<Micros>,
        /// The latest instant.
        maximum: Option<Micros>,
        /// Whether digits seven to nine of a second are accepted.
        nanoseconds: bool,
    },
    /// `date` (`Date32`).
    Date,
    /// `time` of day, local, `HH:MM[:SS[.ffffff]]` (`Time64(µs)`).
    Time,
    /// `duration`, ISO 8601 (`Interval(MonthDayNano)`).
    Duration,
    /// An object (`Struct`); unknown properties are treated as in the contract itself.
    Object(Vec<Column>),
    /// An array (`List`) whose elements are of one kind.
    Array {
        /// The kind of every element.
        element: Box<Kind>,
        /// Whether an element may be null.
        nullable: bool,
    },
}

/// A constant in a contract.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A boolean.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A double.
    Number(f64),
    /// A decimal's unscaled value at its column's scale.
    Decimal(i128),
    /// `null`.
    Null,
}

/// One `allOf` entry: `if` all of `when` hold (an absent property counts as its default), `then` the rest must.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Column index and the values (`const`, or `enum`) of which it must have one.
    pub when: Vec<(usize, Vec<Value>)>,
    /// Columns that must be present and not null.
    pub required: Vec<usize>,
    /// Columns whose bounds are tighter (kind with the bounds that hold then; same Arrow type as the column's own).
    pub bounds: Vec<(usize, Kind)>,
}

/// When the source system wrote an event down is not part of its content: a re-send may differ in it.
pub const RECORDED_AT: &str = "recorded_at";

/// The columns that every source table has behind those of its contract.
pub const SYSTEM_COLUMNS: [&str; 4] = ["_received_at", "_stream", "_sequence", "_index"];

impl Kind {
    /// The Arrow type of the column.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Text { .. } => DataType::Utf8View,
            Self::Boolean => DataType::Boolean,
            Self::Integer { .. } => DataType::Int64,
            Self::Number { .. } => DataType::Float64,
            Self::Decimal { precision, scale, .. } => DataType::Decimal128(*precision, *scale),
            Self::Timestamp { .. } => utc_timestamp(),
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Duration => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::Object(columns) => DataType::Struct(columns.iter().map(Column::field).collect::<Fields>()),
            Self::Array { element, nullable } => {
                DataType::List(Arc::new(Field::new("item", element.data_type(), *nullable)))
            }
        }
    }
}

impl Kind {
    /// Whether a contract may name single values of it: `enum`, `const`, `default`.
    fn has_constants(&self) -> bool {
        matches!(
            self,
            Self::Text { .. } | Self::Boolean | Self::Integer { .. } | Self::Number { .. } | Self::Decimal { .. }
        )
    }

    /// What a value is, with its article, for messages: `an integer`.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Text { .. } => "a string",
            Self::Boolean => "a boolean",
            Self::Integer { .. } => "an integer",
            Self::Number { .. } => "a floating-point number",
            Self::Decimal { .. } => "a decimal",
            Self::Timestamp { .. } => "a date-time",
            Self::Date => "a date",
            Self::Time => "a time of day",
            Self::Duration => "a duration",
            Self::Object(_) => "an object",
            Self::Array { .. } => "an array",
        }
    }
}

impl Column {
    /// The Arrow field: nullable unless the property is required (or has a default) and not nullable.
    pub fn field(&self) -> Field {
        let never_null = (self.required || self.default.is_some()) && !self.nullable;
        Field::new(&self.name, self.kind.data_type(), !never_null)
    }
}

impl Contract {
    /// The contract's own columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(Column::field).collect::<Vec<_>>()))
    }

    /// The source table: the contract's columns, then [`SYSTEM_COLUMNS`].
    pub fn table_schema(&self) -> SchemaRef {
        let mut fields: Vec<Field> = self.columns.iter().map(Column::field).collect();
        fields.push(Field::new("_received_at", utc_timestamp(), true));
        fields.push(Field::new("_stream", DataType::Utf8View, false));
        fields.push(Field::new("_sequence", DataType::Int64, false));
        fields.push(Field::new("_index", DataType::Int64, false));
        Arc::new(Schema::new(fields))
    }

    /// The index of a column by name.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// `Timestamp(µs, UTC)`, the type of every point in time.
pub fn utc_timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}
