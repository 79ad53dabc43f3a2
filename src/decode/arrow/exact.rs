//! Arrow's values to slots, exactly: what the contract's type can't hold as it is, is refused by the same rules as in JSON.

use arrow::datatypes::{IntervalMonthDayNano, TimeUnit};

use super::super::number::decimal_text;
use super::super::rule::{self, Checked, Fault};
use super::super::scalar;
use super::super::slot::Slot;
use super::super::time::timestamp_text;
use crate::definition::contract::Kind;
use crate::types::Micros;

/// `unscaled × 10^-scale` as an integer or a decimal.
pub(super) fn decimal(kind: &Kind, unscaled: i128, scale: i8) -> Checked<Slot> {
    let moved = match kind {
        Kind::Decimal { precision, scale: wanted, .. } => {
            rescaled(unscaled, scale, *wanted).filter(|value| has_digits(*value, *precision)).map(Slot::Decimal)
        }
        Kind::Integer { .. } => {
            rescaled(unscaled, scale, 0).and_then(|value| i64::try_from(value).ok()).map(Slot::Integer)
        }
        _ => None,
    };
    // What does not fit is said in the words for the same number as a text.
    moved.map_or_else(|| scalar::from_text(kind, &decimal_text(unscaled, scale)), Ok)
}

/// The same value at another scale, if that loses no digit and overflows nothing.
fn rescaled(unscaled: i128, from: i8, to: i8) -> Option<i128> {
    let shift = i32::from(to) - i32::from(from);
    let factor = 10_i128.checked_pow(shift.unsigned_abs())?;
    if shift >= 0 {
        return unscaled.checked_mul(factor);
    }
    (unscaled % factor == 0).then(|| unscaled / factor)
}

fn has_digits(value: i128, precision: u8) -> bool {
    10_u128.checked_pow(u32::from(precision)).is_none_or(|bound| value.unsigned_abs() < bound)
}

/// A double that is a number.
pub(super) fn finite(value: f64) -> Checked<Slot> {
    if value.is_finite() {
        return Ok(Slot::Number(value));
    }
    Err(Fault::new(rule::OUT_OF_RANGE, format!("`{value}` is not a finite number")))
}

/// A double that is an integer of 64 bits.
pub(super) fn integer_of_double(value: f64) -> Checked<Slot> {
    let finite = finite(value)?;
    // The bounds are doubles themselves; the upper one is the first that does not fit.
    let fits = (-TWO_TO_63..TWO_TO_63).contains(&value);
    match (finite, value.fract() == 0.0, fits) {
        (_, true, true) => {
            #[expect(clippy::cast_possible_truncation, reason = "an integer within the bounds")]
            let value = value as i64;
            Ok(Slot::Integer(value))
        }
        (_, true, false) => Err(Fault::new(rule::OUT_OF_RANGE, format!("`{value}` does not fit a 64-bit integer"))),
        _ => Err(Fault::new(rule::NOT_AN_INTEGER, format!("`{value}` is not an integer"))),
    }
}

/// An integer that is a double.
pub(super) fn double_of_integer(value: i128) -> Checked<Slot> {
    let double = value as f64;
    #[expect(clippy::cast_possible_truncation, reason = "a double that is not the integer shows in the comparison")]
    let same = double as i128 == value;
    if same {
        return Ok(Slot::Number(double));
    }
    Err(Fault::new(rule::NOT_EXACT, format!("`{value}` is not a double")))
}

/// An instant, in microseconds since 1970.
pub(super) fn timestamp(value: i64, unit: TimeUnit, zoned: bool, nanoseconds: bool) -> Checked<Slot> {
    let micros = match unit {
        TimeUnit::Second => value.checked_mul(1_000_000),
        TimeUnit::Millisecond => value.checked_mul(1_000),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond if value.rem_euclid(1_000) != 0 && !nanoseconds => {
            let shown = timestamp_text(value.div_euclid(1_000));
            let reason = format!("`{shown}` and {} ns has more than 6 digits of a second", value.rem_euclid(1_000));
            return Err(Fault::new(rule::TOO_PRECISE, reason));
        }
        TimeUnit::Nanosecond => Some(value.div_euclid(1_000)),
    };
    let Some(micros) = micros.filter(|micros| YEARS_MICROS.contains(micros)) else {
        return Err(Fault::new(rule::OUT_OF_RANGE, format!("`{value}` is not an instant of the years 0 to 9999")));
    };
    if !zoned {
        let reason = format!("`{}` has no offset: the column's type names no time zone", local_text(micros));
        return Err(Fault::new(rule::MISSING_OFFSET, reason));
    }
    Ok(Slot::Integer(micros))
}

/// A day, counted from 1970-01-01.
pub(super) fn date(days: i64) -> Checked<Slot> {
    let day = i32::try_from(days).ok().filter(|_| DAYS.contains(&days));
    day.map(Slot::Date)
        .ok_or_else(|| Fault::new(rule::OUT_OF_RANGE, format!("day `{days}` is not of the years 0 to 9999")))
}

/// A day in milliseconds since 1970-01-01.
pub(super) fn date_of_millis(millis: i64) -> Checked<Slot> {
    if millis.rem_euclid(MILLIS_PER_DAY) != 0 {
        return Err(Fault::new(rule::INVALID_DATE, format!("`{millis}` ms is not a whole day")));
    }
    date(millis.div_euclid(MILLIS_PER_DAY))
}

/// A time of day, in microseconds since midnight.
pub(super) fn time(value: i64, unit: TimeUnit) -> Checked<Slot> {
    let micros = match unit {
        TimeUnit::Second => value.checked_mul(1_000_000),
        TimeUnit::Millisecond => value.checked_mul(1_000),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond if value % 1_000 != 0 => {
            let reason = format!("`{value}` ns since midnight has more than 6 digits of a second");
            return Err(Fault::new(rule::TOO_PRECISE, reason));
        }
        TimeUnit::Nanosecond => Some(value / 1_000),
    };
    let micros = micros.filter(|micros| (0..MILLIS_PER_DAY * 1_000).contains(micros));
    micros
        .map(Slot::Integer)
        .ok_or_else(|| Fault::new(rule::INVALID_TIME, format!("`{value}` is not a time of day in its unit")))
}

/// A duration of seconds and parts of them.
pub(super) fn duration(value: i64, unit: TimeUnit) -> Checked<Slot> {
    let nanoseconds = match unit {
        TimeUnit::Second => value.checked_mul(1_000_000_000),
        TimeUnit::Millisecond => value.checked_mul(1_000_000),
        TimeUnit::Microsecond => value.checked_mul(1_000),
        TimeUnit::Nanosecond => Some(value),
    };
    let nanoseconds = nanoseconds.ok_or_else(|| {
        Fault::new(rule::OUT_OF_RANGE, format!("duration `{value}`, in its unit, does not fit nanoseconds"))
    })?;
    interval(IntervalMonthDayNano::new(0, 0, nanoseconds))
}

/// A duration in months, days and nanoseconds; as in ISO 8601 none of them is negative.
pub(super) fn interval(value: IntervalMonthDayNano) -> Checked<Slot> {
    let IntervalMonthDayNano { months, days, nanoseconds } = value;
    if months < 0 || days < 0 || nanoseconds < 0 {
        let reason = format!("duration of {months} months, {days} days, {nanoseconds} ns is negative");
        return Err(Fault::new(rule::INVALID_DURATION, reason));
    }
    Ok(Slot::Duration { months, days, nanoseconds })
}

/// A local time for a reason.
fn local_text(micros: Micros) -> String {
    timestamp_text(micros).trim_end_matches('Z').to_owned()
}

/// From 0000-01-01 to the end of 9999-12-31, as texts can say it.
const YEARS_MICROS: std::ops::Range<Micros> = -62_167_219_200_000_000..253_402_300_800_000_000;
const DAYS: std::ops::Range<i64> = -719_528..2_932_897;
const MILLIS_PER_DAY: i64 = 86_400_000;
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
