//! Functions of one column that carry a bound over: if the column is not below a bound, the function is not below what it makes
//! of the bound. Null where the column is null.
//!
//! The list is short on purpose. Adding months to an instant is not on it (31 January 01:00 and 30 January 23:00 change places),
//! nor is anything in a time zone with summer time, apart from `local_date`, which is at most a day behind.

use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::{DataType, IntervalDayTime, IntervalMonthDayNano, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator as Infix;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::types::Micros;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Rising {
    expression: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    column: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It never falls as the column rises.
    Monotone,
    /// It is a day by the clocks of some place, which are less than a day behind UTC; the expression is the instant.
    LocalDay,
}

impl Rising {
    /// The expression over rows of `schema`, if it is such a function.
    pub(crate) fn of(expression: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> Option<Self> {
        let new = |expression: &Arc<dyn PhysicalExpr>, column, kind| Self {
            expression: Arc::clone(expression),
            schema: Arc::clone(schema),
            column,
            kind,
        };
        if let Some(column) = rising_column(expression, schema) {
            return Some(new(expression, column, Kind::Monotone));
        }
        let call = expression.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.name() == "local_date")?;
        let instant = call.args().first()?;
        matches!(instant.data_type(schema).ok()?, DataType::Timestamp(TimeUnit::Microsecond, _)).then_some(())?;
        Some(new(instant, rising_column(instant, schema)?, Kind::LocalDay))
    }

    /// The column.
    pub(crate) fn column(&self) -> usize {
        self.column
    }

    /// Whether it is the column itself.
    pub(crate) fn is_column(&self) -> bool {
        self.distance() == Some(0)
    }

    /// How many microseconds it is ahead of the column, if that is always the same.
    pub(crate) fn distance(&self) -> Option<Micros> {
        if self.kind != Kind::Monotone {
            return None;
        }
        if self.expression.downcast_ref::<Column>().is_some() {
            return Some(0);
        }
        let DataType::Timestamp(TimeUnit::Microsecond, _) = self.schema.field(self.column).data_type() else {
            return None;
        };
        let infix = self.expression.downcast_ref::<BinaryExpr>()?;
        let is_column = |side: &Arc<dyn PhysicalExpr>| side.downcast_ref::<Column>().is_some();
        match (infix.op(), infix.left(), infix.right()) {
            (Infix::Plus, column, length) | (Infix::Plus, length, column) if is_column(column) => fixed_length(length),
            (Infix::Minus, column, length) if is_column(column) => fixed_length(length)?.checked_neg(),
            _ => None,
        }
    }

    /// What it makes of a bound of the column.
    pub(crate) fn at(&self, bound: &ScalarValue) -> Option<ScalarValue> {
        let column = |(position, field): (usize, &Arc<arrow::datatypes::Field>)| -> Option<ArrayRef> {
            match position == self.column {
                true if bound.data_type() != *field.data_type() => None,
                true => bound.to_array_of_size(1).ok(),
                false => Some(new_null_array(field.data_type(), 1)),
            }
        };
        let columns = self.schema.fields().iter().enumerate().map(column).collect::<Option<Vec<_>>>()?;
        let row = RecordBatch::try_new(Arc::clone(&self.schema), columns).ok()?;
        let value = self.expression.evaluate(&row).and_then(|value| value.into_array(1)).ok()?;
        let value = ScalarValue::try_from_array(&value, 0).ok().filter(|value| !value.is_null())?;
        match (self.kind, value) {
            (Kind::Monotone, value) => Some(value),
            (Kind::LocalDay, ScalarValue::TimestampMicrosecond(Some(micros), _)) => {
                i32::try_from(micros.div_euclid(DAY_MICROS) - 1).ok().map(|day| ScalarValue::Date32(Some(day)))
            }
            (Kind::LocalDay, _) => None,
        }
    }
}

/// The column that an expression never falls with.
fn rising_column(expression: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> Option<usize> {
    if let Some(column) = expression.downcast_ref::<Column>() {
        return Some(column.index());
    }
    let times = |expression: &Arc<dyn PhysicalExpr>| expression.data_type(schema).is_ok_and(|kind| is_time(&kind));
    if !times(expression) {
        return None;
    }
    let inner = if let Some(cast) = expression.downcast_ref::<CastExpr>() {
        cast.expr()
    } else if let Some(infix) = expression.downcast_ref::<BinaryExpr>() {
        match (infix.op(), infix.left(), infix.right()) {
            (Infix::Plus | Infix::Minus, time, length) if fixed_length(length).is_some() => time,
            (Infix::Plus, length, time) if fixed_length(length).is_some() => time,
            _ => return None,
        }
    } else {
        let call = expression.downcast_ref::<ScalarFunctionExpr>()?;
        match (call.name(), call.args()) {
            ("date_trunc", [unit, time]) if is_literal(unit) => time,
            ("date_bin", [length, time, origin @ ..])
                if fixed_length(length).is_some_and(|length| length > 0) && origin.iter().all(is_literal) =>
            {
                time
            }
            _ => return None,
        }
    };
    if times(inner) { rising_column(inner, schema) } else { None }
}

/// Instants by UTC, and days.
fn is_time(kind: &DataType) -> bool {
    match kind {
        DataType::Timestamp(_, zone) => zone.as_deref().is_none_or(|zone| matches!(zone, "UTC" | "+00:00")),
        DataType::Date32 | DataType::Date64 => true,
        _ => false,
    }
}

fn is_literal(expression: &Arc<dyn PhysicalExpr>) -> bool {
    expression.downcast_ref::<Literal>().is_some()
}

/// The microseconds of a literal length of time that has always as many.
fn fixed_length(expression: &Arc<dyn PhysicalExpr>) -> Option<Micros> {
    let whole = |nanos: i64| (nanos % 1_000 == 0).then_some(nanos / 1_000);
    let days = |days: i32| Micros::from(days) * DAY_MICROS;
    match expression.downcast_ref::<Literal>()?.value() {
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months: 0, days: whole_days, nanoseconds })) => {
            days(*whole_days).checked_add(whole(*nanoseconds)?)
        }
        ScalarValue::IntervalDayTime(Some(IntervalDayTime { days: whole_days, milliseconds })) => {
            Some(days(*whole_days) + Micros::from(*milliseconds) * 1_000)
        }
        ScalarValue::DurationSecond(Some(seconds)) => seconds.checked_mul(1_000_000),
        ScalarValue::DurationMillisecond(Some(millis)) => millis.checked_mul(1_000),
        ScalarValue::DurationMicrosecond(Some(micros)) => Some(*micros),
        ScalarValue::DurationNanosecond(Some(nanos)) => whole(*nanos),
        _ => None,
    }
}

/// Whether a condition has a value for every row: comparisons of columns, literals and rising functions of times, and what
/// connects them.
pub(crate) fn never_fails(condition: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> bool {
    let connects = |infix: &BinaryExpr| {
        matches!(
            infix.op(),
            Infix::And
                | Infix::Or
                | Infix::Eq
                | Infix::NotEq
                | Infix::Lt
                | Infix::LtEq
                | Infix::Gt
                | Infix::GtEq
                | Infix::IsDistinctFrom
                | Infix::IsNotDistinctFrom
        )
    };
    let plain = is_literal(condition)
        || rising_column(condition, schema).is_some()
        || is_moved_time(condition, schema)
        || condition.downcast_ref::<BinaryExpr>().is_some_and(connects)
        || condition.downcast_ref::<NotExpr>().is_some()
        || condition.downcast_ref::<IsNullExpr>().is_some()
        || condition.downcast_ref::<IsNotNullExpr>().is_some()
        || condition.downcast_ref::<InListExpr>().is_some()
        || condition.downcast_ref::<LikeExpr>().is_some();
    plain
        && (rising_column(condition, schema).is_some()
            || condition.children().into_iter().all(|child| never_fails(child, schema)))
}

/// A time and a literal length, months too: it leaves the calendar only from beyond any contract's dates.
fn is_moved_time(expression: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> bool {
    let time = |side: &Arc<dyn PhysicalExpr>| side.data_type(schema).is_ok_and(|kind| is_time(&kind));
    expression.downcast_ref::<BinaryExpr>().is_some_and(|infix| {
        matches!(infix.op(), Infix::Plus | Infix::Minus) && time(infix.left()) && is_literal(infix.right())
    })
}

const DAY_MICROS: Micros = 86_400_000_000;
