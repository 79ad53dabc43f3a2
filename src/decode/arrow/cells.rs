//! The columns of a record batch, matched with a contract once a batch, then read cell by cell.
//!
//! Types that differ only in width are widened first, by kernels, which changes no value; what is left has one form a kind
//! of value. A column whose type can't hold the property's values exactly is unfit: each of its values is refused.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float64Array, Int64Array,
    IntervalMonthDayNanoArray, StringViewArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Fields, IntervalUnit, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use hashbrown::HashSet;

use super::super::ignored::duplicate_key;
use super::super::json::unknown_property;
use super::super::rule::{self, Checked, Fault, shorten};
use super::super::scalar;
use super::super::shape::{Form, Plan, Property, Shape};
use super::super::slot::{Scratch, Slot, Texts};
use super::exact;
use crate::definition::contract::Kind;

/// The columns of a batch, or the fields of a struct, by the properties of an object.
#[derive(Debug)]
pub(crate) struct ObjectCells {
    /// In the contract's order; none where there is no such column.
    cells: Vec<Option<Cells>>,
    /// A name that no object may have. It is in every row.
    wrong_name: Option<WrongName>,
}

#[derive(Debug)]
enum WrongName {
    Unknown(String),
    Twice(String),
}

#[derive(Debug)]
struct Cells {
    nulls: Option<NullBuffer>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// A column of nulls.
    Null,
    /// A column of a type that can't be read as the property's kind; why, for a person.
    Unfit(String),
    Text(StringViewArray),
    Boolean(BooleanArray),
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Number(Float64Array),
    Decimal(Decimal128Array),
    WideDecimal(Decimal256Array),
    Timestamp {
        values: ScalarBuffer<i64>,
        unit: TimeUnit,
        zoned: bool,
    },
    Date(Date32Array),
    /// Milliseconds since 1970 that stand for days.
    DateMillis(ScalarBuffer<i64>),
    Time(ScalarBuffer<i64>, TimeUnit),
    Duration(ScalarBuffer<i64>, TimeUnit),
    Interval(IntervalMonthDayNanoArray),
    Object(ObjectCells),
    Array {
        places: Places,
        element: Box<Cells>,
    },
}

/// Where the elements of a list lie.
#[derive(Debug)]
enum Places {
    Small(OffsetBuffer<i32>),
    Large(OffsetBuffer<i64>),
    Fixed(usize),
}

impl ObjectCells {
    /// Matches columns with properties by name. Columns that the contract does not name are not looked at, or refuse every
    /// row where it does not accept additional properties.
    pub(crate) fn bind(columns: &[ArrayRef], fields: &Fields, shape: &Shape, additional: bool) -> Self {
        let mut cells: Vec<Option<Cells>> = shape.properties.iter().map(|_| None).collect();
        let mut seen = HashSet::new();
        let mut wrong_name = None;
        for (at, (column, field)) in columns.iter().zip(fields).enumerate() {
            if !seen.insert(field.name()) {
                wrong_name.get_or_insert_with(|| WrongName::Twice(field.name().clone()));
            }
            match shape.find(field.name(), at) {
                Some(at) => {
                    let form = &shape.properties[at].form;
                    cells[at].get_or_insert_with(|| Cells::bind(column, form, additional));
                }
                None if additional => {}
                None => {
                    wrong_name.get_or_insert_with(|| WrongName::Unknown(field.name().clone()));
                }
            }
        }
        Self { cells, wrong_name }
    }

    /// Reads an object's properties onto the stack; returns where they start. Required properties and defaults are left to
    /// the caller.
    pub(crate) fn read(&self, plan: &Plan, shape: &Shape, row: usize, scratch: &mut Scratch) -> Checked<usize> {
        match &self.wrong_name {
            None => {}
            Some(WrongName::Unknown(name)) => return Err(unknown_property(name)),
            Some(WrongName::Twice(name)) => return Err(duplicate_key(name).inside(name)),
        }
        let mark = scratch.open(shape.properties.len());
        for (at, (property, cells)) in shape.properties.iter().zip(&self.cells).enumerate() {
            let Some(cells) = cells else { continue };
            let slot = cells.property(plan, property, row, scratch);
            scratch.stack[mark + at] = slot.map_err(|fault| fault.inside(&property.name))?;
        }
        Ok(mark)
    }

    /// What makes every row wrong, in words.
    pub(crate) fn misfits(&self, shape: &Shape) -> Vec<String> {
        let mut found = Vec::new();
        self.add_misfits(shape, "", &mut found);
        found
    }

    fn add_misfits(&self, shape: &Shape, inside: &str, found: &mut Vec<String>) {
        for (property, cells) in shape.properties.iter().zip(&self.cells) {
            let name = format!("{inside}{}", property.name);
            match cells {
                Some(cells) => cells.add_misfits(&property.form, &name, found),
                None if property.required => found.push(format!("there is no `{name}`, which is required")),
                None => {}
            }
        }
        match &self.wrong_name {
            Some(WrongName::Unknown(name)) => {
                found.push(format!("there is `{inside}{}`, which the contract does not have", shorten(name)));
            }
            Some(WrongName::Twice(name)) => found.push(format!("there are two of `{inside}{}`", shorten(name))),
            None => {}
        }
    }

    /// How many bytes all texts take that rows refer to, as often as they do.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.cells.iter().flatten().map(Cells::text_bytes).sum()
    }
}

impl Cells {
    fn bind(column: &ArrayRef, form: &Form, additional: bool) -> Self {
        let column = flat(column);
        let nulls = column.logical_nulls();
        let values = match (form, column.data_type()) {
            (_, DataType::Null) => Values::Null,
            (Form::Object(shape), DataType::Struct(fields)) => {
                Values::Object(ObjectCells::bind(column.as_struct().columns(), fields, shape, additional))
            }
            (Form::Array { element, .. }, DataType::List(_)) => {
                let list = column.as_list::<i32>();
                let element = Box::new(Self::bind(list.values(), element, additional));
                Values::Array { places: Places::Small(list.offsets().clone()), element }
            }
            (Form::Array { element, .. }, DataType::LargeList(_)) => {
                let list = column.as_list::<i64>();
                let element = Box::new(Self::bind(list.values(), element, additional));
                Values::Array { places: Places::Large(list.offsets().clone()), element }
            }
            (Form::Array { element, .. }, DataType::FixedSizeList(_, size)) => {
                let element = Box::new(Self::bind(column.as_fixed_size_list().values(), element, additional));
                Values::Array { places: Places::Fixed(usize::try_from(*size).unwrap_or(0)), element }
            }
            (Form::Scalar(kind), data_type) => {
                scalar_values(kind, &column).unwrap_or_else(|| unfit(kind.describe(), exactness(kind), data_type))
            }
            (Form::Object(_), data_type) => unfit("an object", "", data_type),
            (Form::Array { .. }, data_type) => unfit("an array", "", data_type),
        };
        Self { nulls, values }
    }

    fn is_null(&self, row: usize) -> bool {
        matches!(self.values, Values::Null) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// The value of a property. Arrow has one null: it is the JSON null where the contract allows that, and otherwise an
    /// absent property where that is allowed.
    fn property(&self, plan: &Plan, property: &Property, row: usize, scratch: &mut Scratch) -> Checked<Slot> {
        let slot = match self.is_null(row) {
            false => self.value(plan, &property.form, row, scratch)?,
            true if property.nullable => Slot::Null,
            true if property.required => return Err(null_not_allowed()),
            true => return Ok(Slot::Absent),
        };
        property.allow(slot, &texts(plan, scratch), || self.shown(&slot, &texts(plan, scratch)))
    }

    fn value(&self, plan: &Plan, form: &Form, row: usize, scratch: &mut Scratch) -> Checked<Slot> {
        match (form, &self.values) {
            (_, Values::Unfit(reason)) => Err(Fault::new(rule::WRONG_TYPE, reason.as_str())),
            (Form::Object(shape), Values::Object(cells)) => {
                let mark = cells.read(plan, shape, row, scratch)?;
                let slots = &mut scratch.stack[mark..];
                shape.require(slots)?;
                shape.fill(slots);
                Ok(scratch.close(mark))
            }
            (Form::Array { element: form, nullable }, Values::Array { places, element }) => {
                let mark = scratch.open(0);
                for (index, row) in places.of(row).enumerate() {
                    let slot = match element.is_null(row) {
                        true if *nullable => Ok(Slot::Null),
                        true => Err(null_not_allowed()),
                        false => element.value(plan, form, row, scratch),
                    };
                    let slot = slot.map_err(|fault| fault.inside(index))?;
                    scratch.stack.push(slot);
                }
                Ok(scratch.close(mark))
            }
            (Form::Scalar(kind), values) => {
                let slot = values.scalar(kind, row, scratch)?;
                scalar::check_bounds(kind, &slot, &texts(plan, scratch))?;
                Ok(slot)
            }
            (form, values) => unreachable!("{values:?} was bound to {form:?}"),
        }
    }

    fn add_misfits(&self, form: &Form, name: &str, found: &mut Vec<String>) {
        match (&self.values, form) {
            (Values::Unfit(reason), _) => found.push(format!("`{name}`: {reason}")),
            (Values::Timestamp { zoned: false, .. }, _) => {
                found.push(format!("`{name}` is a local time: its type names no time zone; write instants in UTC"));
            }
            (Values::Object(cells), Form::Object(shape)) => cells.add_misfits(shape, &format!("{name}."), found),
            (Values::Array { element, .. }, Form::Array { element: form, .. }) => {
                element.add_misfits(form, &format!("{name}[]"), found);
            }
            _ => {}
        }
    }

    fn shown(&self, slot: &Slot, texts: &Texts<'_>) -> String {
        match (slot, &self.values) {
            (Slot::Text(text), _) => texts.get(*text).to_owned(),
            (Slot::Boolean(value), _) => value.to_string(),
            (Slot::Integer(value), _) => value.to_string(),
            (Slot::Number(value), _) => value.to_string(),
            (Slot::Null, _) => "null".to_owned(),
            (_, Values::Decimal(values)) => format!("a value of type {}", values.data_type()),
            _ => "the value".to_owned(),
        }
    }

    fn text_bytes(&self) -> u64 {
        match &self.values {
            Values::Text(texts) => texts.lengths().map(u64::from).sum(),
            Values::Object(cells) => cells.text_bytes(),
            Values::Array { element, .. } => element.text_bytes(),
            _ => 0,
        }
    }
}

impl Values {
    fn scalar(&self, kind: &Kind, row: usize, scratch: &mut Scratch) -> Checked<Slot> {
        match (kind, self) {
            (Kind::Text { .. }, Self::Text(texts)) => Ok(Slot::Text(scratch.own_text(texts.value(row)))),
            (Kind::Boolean, Self::Boolean(values)) => Ok(Slot::Boolean(values.value(row))),
            (Kind::Integer { .. }, Self::Integer(values)) => Ok(Slot::Integer(values.value(row))),
            (Kind::Number { .. }, Self::Number(values)) => exact::finite(values.value(row)),
            (Kind::Integer { .. }, Self::Number(values)) => exact::integer_of_double(values.value(row)),
            (Kind::Number { .. }, Self::Integer(values)) => exact::double_of_integer(i128::from(values.value(row))),
            (Kind::Number { .. }, Self::Unsigned(values)) => exact::double_of_integer(i128::from(values.value(row))),
            (kind, Self::Unsigned(values)) => exact::decimal(kind, i128::from(values.value(row)), 0),
            (kind, Self::Integer(values)) => exact::decimal(kind, i128::from(values.value(row)), 0),
            (kind, Self::Decimal(values)) => exact::decimal(kind, values.value(row), values.scale()),
            (kind, Self::WideDecimal(values)) => scalar::from_text(kind, &values.value_as_string(row)),
            (Kind::Timestamp { nanoseconds, .. }, Self::Timestamp { values, unit, zoned }) => {
                exact::timestamp(values[row], *unit, *zoned, *nanoseconds)
            }
            (Kind::Date, Self::Date(values)) => exact::date(i64::from(values.value(row))),
            (Kind::Date, Self::DateMillis(values)) => exact::date_of_millis(values[row]),
            (Kind::Time, Self::Time(values, unit)) => exact::time(values[row], *unit),
            (Kind::Duration, Self::Duration(values, unit)) => exact::duration(values[row], *unit),
            (Kind::Duration, Self::Interval(values)) => exact::interval(values.value(row)),
            (kind, Self::Text(texts)) => scalar::from_text(kind, texts.value(row)),
            (kind, values) => unreachable!("{values:?} was bound to {kind:?}"),
        }
    }
}

impl Places {
    /// The elements of a row.
    fn of(&self, row: usize) -> Range<usize> {
        match self {
            Self::Small(offsets) => index(offsets[row].into())..index(offsets[row + 1].into()),
            Self::Large(offsets) => index(offsets[row])..index(offsets[row + 1]),
            Self::Fixed(size) => row * size..(row + 1) * size,
        }
    }
}

/// An offset, which Arrow has checked to lie inside the values.
fn index(offset: i64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// A column without its dictionary. Texts are not copied.
fn flat(column: &ArrayRef) -> ArrayRef {
    if !matches!(column.data_type(), DataType::Dictionary(..)) {
        return Arc::clone(column);
    }
    let dictionary = column.as_any_dictionary();
    let values = widened(dictionary.values()).unwrap_or_else(|| Arc::clone(dictionary.values()));
    take(&values, dictionary.keys(), None).unwrap_or_else(|_| Arc::clone(column))
}

/// The same values in the widest type of their kind; none where there is no such.
fn widened(column: &ArrayRef) -> Option<ArrayRef> {
    let wide = match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8View,
        kind if kind.is_integer() && *kind != DataType::UInt64 => DataType::Int64,
        kind if kind.is_floating() => DataType::Float64,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        kind => kind.clone(),
    };
    if wide == *column.data_type() {
        return Some(Arc::clone(column));
    }
    cast_with_options(column, &wide, &CastOptions { safe: false, ..CastOptions::default() }).ok()
}

/// The values of a column that can be read as values of `kind`.
fn scalar_values(kind: &Kind, column: &ArrayRef) -> Option<Values> {
    let column = widened(column)?;
    let values = match column.data_type() {
        DataType::Utf8View => Values::Text(column.as_string_view().clone()),
        DataType::Boolean => Values::Boolean(column.as_boolean().clone()),
        DataType::Int64 => Values::Integer(column.as_primitive().clone()),
        DataType::UInt64 => Values::Unsigned(column.as_primitive().clone()),
        DataType::Float64 => Values::Number(column.as_primitive().clone()),
        DataType::Decimal128(..) => Values::Decimal(column.as_primitive::<Decimal128Type>().clone()),
        DataType::Decimal256(..) => Values::WideDecimal(column.as_primitive::<Decimal256Type>().clone()),
        DataType::Timestamp(unit, zone) => {
            Values::Timestamp { values: timestamps(&column, *unit), unit: *unit, zoned: zone.is_some() }
        }
        DataType::Date32 => Values::Date(column.as_primitive().clone()),
        DataType::Date64 => Values::DateMillis(column.as_primitive::<arrow::datatypes::Date64Type>().values().clone()),
        DataType::Time32(unit) | DataType::Time64(unit) => Values::Time(times(&column, *unit), *unit),
        DataType::Duration(unit) => Values::Duration(durations(&column, *unit), *unit),
        DataType::Interval(_) => Values::Interval(column.as_primitive().clone()),
        _ => return None,
    };
    let fits = matches!(
        (kind, &values),
        (Kind::Text { .. }, Values::Text(_))
            | (Kind::Boolean, Values::Boolean(_))
            | (
                Kind::Integer { .. },
                Values::Integer(_)
                    | Values::Unsigned(_)
                    | Values::Number(_)
                    | Values::Decimal(_)
                    | Values::WideDecimal(_)
            )
            | (Kind::Number { .. }, Values::Number(_) | Values::Integer(_) | Values::Unsigned(_))
            | (
                Kind::Decimal { .. },
                Values::Decimal(_)
                    | Values::WideDecimal(_)
                    | Values::Integer(_)
                    | Values::Unsigned(_)
                    | Values::Text(_)
            )
            | (Kind::Timestamp { .. }, Values::Timestamp { .. } | Values::Text(_))
            | (Kind::Date, Values::Date(_) | Values::DateMillis(_) | Values::Text(_))
            | (Kind::Time, Values::Time(..) | Values::Text(_))
            | (Kind::Duration, Values::Duration(..) | Values::Interval(_) | Values::Text(_))
    );
    fits.then_some(values)
}

fn timestamps(column: &ArrayRef, unit: TimeUnit) -> ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => column.as_primitive::<TimestampSecondType>().values().clone(),
        TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().values().clone(),
        TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().values().clone(),
        TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().values().clone(),
    }
}

fn times(column: &ArrayRef, unit: TimeUnit) -> ScalarBuffer<i64> {
    let wide = |values: &ScalarBuffer<i32>| values.iter().map(|value| i64::from(*value)).collect();
    match unit {
        TimeUnit::Second => wide(column.as_primitive::<Time32SecondType>().values()),
        TimeUnit::Millisecond => wide(column.as_primitive::<Time32MillisecondType>().values()),
        TimeUnit::Microsecond => column.as_primitive::<Time64MicrosecondType>().values().clone(),
        TimeUnit::Nanosecond => column.as_primitive::<Time64NanosecondType>().values().clone(),
    }
}

fn durations(column: &ArrayRef, unit: TimeUnit) -> ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => column.as_primitive::<DurationSecondType>().values().clone(),
        TimeUnit::Millisecond => column.as_primitive::<DurationMillisecondType>().values().clone(),
        TimeUnit::Microsecond => column.as_primitive::<DurationMicrosecondType>().values().clone(),
        TimeUnit::Nanosecond => column.as_primitive::<DurationNanosecondType>().values().clone(),
    }
}

fn texts<'a>(plan: &'a Plan, scratch: &'a Scratch) -> Texts<'a> {
    Texts { message: "", unescaped: &scratch.unescaped, contract: &plan.texts }
}

#[cold]
fn null_not_allowed() -> Box<Fault> {
    Fault::new(rule::NULL_NOT_ALLOWED, "null is not allowed")
}

fn unfit(wanted: &str, hint: &str, data_type: &DataType) -> Values {
    Values::Unfit(format!("a column of type `{}` can't be read as {wanted}{hint}", shorten(&data_type.to_string())))
}

fn exactness(kind: &Kind) -> &'static str {
    match kind {
        Kind::Decimal { .. } => ": send decimals, integers or texts, which are exact",
        _ => "",
    }
}
