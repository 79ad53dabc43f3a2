//! Timestamps, dates, times and durations, read strictly: nothing is guessed, rounded or moved to a day that exists.
//!
//! A leap second (`:60`) is refused: microseconds since 1970 have no place for it.

use chrono::{Datelike, NaiveDate};

use super::rule::{self, Checked, Fault, shorten};
use super::slot::Slot;
use crate::types::Micros;

/// RFC 3339 `date-time`, as microseconds since 1970 in UTC. At most six digits of a second, with `nanoseconds` nine, of
/// which the last three are cut off.
pub(crate) fn timestamp(text: &str, nanoseconds: bool) -> Checked<Slot> {
    let invalid = || Fault::new(rule::INVALID_TIMESTAMP, format!("`{}` is not a date-time", shorten(text)));
    let bytes = text.as_bytes();
    let (date, rest) = bytes.split_at_checked(DATE_LENGTH).ok_or_else(invalid)?;
    let days = day_number(date).ok_or_else(invalid)?;
    let [b'T' | b't', rest @ ..] = rest else {
        return Err(invalid());
    };
    let (clock, rest) = rest.split_at_checked(CLOCK_LENGTH).ok_or_else(invalid)?;
    let seconds = clock_seconds(clock).ok_or_else(invalid)?;
    let (fraction, rest) = fraction(rest).ok_or_else(invalid)?;
    let micros = fraction_micros(fraction, if nanoseconds { 9 } else { 6 }, text)?;
    let offset = match rest {
        [b'Z' | b'z'] => 0,
        [] => {
            return Err(Fault::new(
                rule::MISSING_OFFSET,
                format!("`{}` has no offset such as `Z` or `+01:00`", shorten(text)),
            ));
        }
        rest => offset_seconds(rest).ok_or_else(invalid)?,
    };
    let seconds = i64::from(days) * SECONDS_PER_DAY + seconds - offset;
    Ok(Slot::Integer(seconds * MICROS_PER_SECOND + micros))
}

/// `YYYY-MM-DD`, as days since 1970-01-01.
pub(crate) fn date(text: &str) -> Checked<Slot> {
    day_number(text.as_bytes())
        .map(Slot::Date)
        .ok_or_else(|| Fault::new(rule::INVALID_DATE, format!("`{}` is not a date", shorten(text))))
}

/// `HH:MM[:SS[.ffffff]]`, as microseconds since midnight.
pub(crate) fn time(text: &str) -> Checked<Slot> {
    let invalid = || Fault::new(rule::INVALID_TIME, format!("`{}` is not a time of day", shorten(text)));
    let bytes = text.as_bytes();
    if bytes.len() == MINUTE_LENGTH {
        let [hour @ .., b':', m, n] = bytes else { return Err(invalid()) };
        let (hour, minute) = number(hour, 23).zip(number(&[*m, *n], 59)).ok_or_else(invalid)?;
        return Ok(Slot::Integer((hour * 3600 + minute * 60) * MICROS_PER_SECOND));
    }
    let (clock, rest) = bytes.split_at_checked(CLOCK_LENGTH).ok_or_else(invalid)?;
    let seconds = clock_seconds(clock).ok_or_else(invalid)?;
    match fraction(rest) {
        Some((fraction, [])) => Ok(Slot::Integer(seconds * MICROS_PER_SECOND + fraction_micros(fraction, 6, text)?)),
        _ => Err(invalid()),
    }
}

/// ISO 8601 `P1Y2M3DT4H5M6.7S` or `P4W`: units in falling order, each at most once, only seconds with a fraction, no sign.
pub(crate) fn duration(text: &str) -> Checked<Slot> {
    let invalid = || Fault::new(rule::INVALID_DURATION, format!("`{}` is not an ISO 8601 duration", shorten(text)));
    let range = || Fault::new(rule::OUT_OF_RANGE, format!("duration `{}` is too long", shorten(text)));
    let body = text.strip_prefix('P').ok_or_else(invalid)?;
    let (days, clock) = match body.split_once('T') {
        Some((_, "")) => return Err(invalid()),
        Some((days, clock)) => (days, clock),
        None => (body, ""),
    };
    if body.is_empty() || (body.contains('W') && body.bytes().filter(|byte| !byte.is_ascii_digit()).count() > 1) {
        return Err(invalid());
    }
    let [years, months, weeks, days] = components(days, *b"YMWD").ok_or_else(invalid)?;
    let (clock, fraction) = split_seconds(clock).ok_or_else(invalid)?;
    let [hours, minutes, seconds] = components(&clock, *b"HMS").ok_or_else(invalid)?;
    let nanoseconds = fraction_units(fraction, 9).ok_or_else(|| too_precise(text, 9))?;
    let months = years.checked_mul(12).and_then(|sum| sum.checked_add(months)).ok_or_else(range)?;
    let days = weeks.checked_mul(7).and_then(|sum| sum.checked_add(days)).ok_or_else(range)?;
    let nanoseconds = clock_nanoseconds(hours, minutes, seconds, nanoseconds).ok_or_else(range)?;
    Ok(Slot::Duration {
        months: i32::try_from(months).map_err(|_| range())?,
        days: i32::try_from(days).map_err(|_| range())?,
        nanoseconds,
    })
}

/// A timestamp for a reason.
pub(crate) fn timestamp_text(micros: Micros) -> String {
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| format!("{micros} µs"), |time| time.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string())
}

fn day_number(text: &[u8]) -> Option<i32> {
    let [y, e, a, r, b'-', m, o, b'-', d, i] = text else {
        return None;
    };
    let year = i32::try_from(number(&[*y, *e, *a, *r], 9999)?).ok()?;
    let month = u32::try_from(number(&[*m, *o], 12)?).ok()?;
    let day = u32::try_from(number(&[*d, *i], 31)?).ok()?;
    Some(NaiveDate::from_ymd_opt(year, month, day)?.num_days_from_ce() - DAYS_TO_1970)
}

fn clock_seconds(text: &[u8]) -> Option<i64> {
    let [h, o, b':', m, i, b':', s, e] = text else {
        return None;
    };
    Some(number(&[*h, *o], 23)? * 3600 + number(&[*m, *i], 59)? * 60 + number(&[*s, *e], 59)?)
}

fn offset_seconds(text: &[u8]) -> Option<i64> {
    let [sign, h, o, b':', m, i] = text else {
        return None;
    };
    let size = number(&[*h, *o], 23)? * 3600 + number(&[*m, *i], 59)? * 60;
    match sign {
        b'+' => Some(size),
        b'-' => Some(-size),
        _ => None,
    }
}

/// The digits behind a point, if there is one, and the rest; none for a point without digits.
fn fraction(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let [b'.', rest @ ..] = text else {
        return Some((&[], text));
    };
    let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    (end > 0).then(|| rest.split_at(end))
}

fn fraction_micros(digits: &[u8], digits_max: usize, text: &str) -> Checked<i64> {
    if digits.len() > digits_max {
        return Err(too_precise(text, digits_max));
    }
    Ok(fraction_units(&digits[..digits.len().min(6)], 6).unwrap_or(0))
}

/// A fraction in units of `10^-places`; none if it has more digits.
fn fraction_units(digits: &[u8], places: usize) -> Option<i64> {
    let missing = places.checked_sub(digits.len())?;
    let value = digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some((0..missing).fold(value, |value, _| value * 10))
}

#[cold]
fn too_precise(text: &str, digits_max: usize) -> Box<Fault> {
    Fault::new(rule::TOO_PRECISE, format!("`{}` has more than {digits_max} digits of a second", shorten(text)))
}

/// Digits only, at most `maximum`.
fn number(digits: &[u8], maximum: i64) -> Option<i64> {
    let mut value = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    (value <= maximum).then_some(value)
}

/// `1Y2D` as numbers per unit, units in the order given; none if one is out of order, twice, or without digits.
fn components<const N: usize>(text: &str, units: [u8; N]) -> Option<[i64; N]> {
    let mut values = [0; N];
    let mut next = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.bytes().position(|byte| !byte.is_ascii_digit())?;
        let unit = rest.as_bytes().get(end)?;
        let at = next + units.get(next..)?.iter().position(|known| known == unit)?;
        *values.get_mut(at)? = rest.get(..end)?.parse().ok()?;
        next = at + 1;
        rest = rest.get(end + 1..)?;
    }
    Some(values)
}

/// `4H6.7S` as `4H6S` and the digits `7`.
fn split_seconds(clock: &str) -> Option<(String, &[u8])> {
    let Some((whole, rest)) = clock.split_once('.') else {
        return Some((clock.to_owned(), &[]));
    };
    let digits = rest.strip_suffix('S')?.as_bytes();
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    valid.then(|| (format!("{whole}S"), digits))
}

fn clock_nanoseconds(hours: i64, minutes: i64, seconds: i64, nanoseconds: i64) -> Option<i64> {
    let minutes = hours.checked_mul(60)?.checked_add(minutes)?;
    let seconds = minutes.checked_mul(60)?.checked_add(seconds)?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

const DATE_LENGTH: usize = "YYYY-MM-DD".len();
const CLOCK_LENGTH: usize = "HH:MM:SS".len();
const MINUTE_LENGTH: usize = "HH:MM".len();
/// From chrono's day 0 (the last day of 1 BC) to 1970-01-01.
const DAYS_TO_1970: i32 = 719_163;
const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_SECOND: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(outcome: Checked<Slot>, expected: Result<Slot, &str>) {
        assert_eq!(outcome.map_err(|fault| fault.rejection(0).rule), expected);
    }

    #[test]
    fn timestamps_are_instants_or_refused() {
        let check = |text, expected: Result<i64, &str>| check(timestamp(text, false), expected.map(Slot::Integer));
        check("1970-01-01T00:00:00Z", Ok(0));
        check("2023-11-14T22:13:20Z", Ok(1_700_000_000_000_000));
        check("2023-11-14t23:13:20.000001+01:00", Ok(1_700_000_000_000_001));
        check("2023-11-14T16:43:20.5-05:30", Ok(1_700_000_000_500_000));
        check("1969-12-31T23:59:59.999999z", Ok(-1));
        check("2024-02-29T00:00:00-00:00", Ok(1_709_164_800_000_000));
        check("0000-01-01T00:00:00Z", Ok(-62_167_219_200_000_000));
        check("9999-12-31T23:59:59Z", Ok(253_402_300_799_000_000));
        check("2023-11-14T22:13:20", Err(rule::MISSING_OFFSET));
        check("2023-11-14T22:13:20.5", Err(rule::MISSING_OFFSET));
        check("2023-11-14T22:13:20.1234567Z", Err(rule::TOO_PRECISE));
        for text in [
            "",
            "2023",
            "2023-11-14",
            "2023-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-00-01T00:00:00Z",
            "2023-01-00T00:00:00Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01T00:60:00Z",
            "2016-12-31T23:59:60Z",
            "2023-01-01 00:00:00Z",
            "2023-01-01T00:00Z",
            "2023-01-01T00:00:00.Z",
            "2023-01-01T00:00:00+0100",
            "2023-01-01T00:00:00+01",
            "2023-01-01T00:00:00+24:00",
            "2023-01-01T00:00:00Z ",
            "+2023-01-01T00:00:00Z",
            "12023-01-01T00:00:00Z",
            "2023-01-01T00:00:00ZZ",
            "20é3-01-01T00:00:00Z",
            "é",
        ] {
            check(text, Err(rule::INVALID_TIMESTAMP));
        }
    }

    #[test]
    fn digits_beyond_microseconds_are_cut_only_where_the_contract_says_nanoseconds() {
        check(timestamp("1970-01-01T00:00:00.123456789Z", true), Ok(Slot::Integer(123_456)));
        check(timestamp("1970-01-01T00:00:00.1234567891Z", true), Err(rule::TOO_PRECISE));
    }

    #[test]
    fn dates_are_days_that_exist() {
        check(date("1970-01-02"), Ok(Slot::Date(1)));
        check(date("2024-02-29"), Ok(Slot::Date(19_782)));
        for text in ["2023-02-30", "2023-2-3", "20230203", "2023-02-03Z", ""] {
            check(date(text), Err(rule::INVALID_DATE));
        }
    }

    #[test]
    fn times_are_within_a_day() {
        check(time("00:00"), Ok(Slot::Integer(0)));
        check(time("17:30"), Ok(Slot::Integer(63_000_000_000)));
        check(time("23:59:59.999999"), Ok(Slot::Integer(86_399_999_999)));
        check(time("17:30:00.1234567"), Err(rule::TOO_PRECISE));
        for text in ["24:00", "17:60", "17:30:60", "17.30", "7:30", "17:30:", "17:30:00.", "17:30:00Z", "é:30", ""] {
            check(time(text), Err(rule::INVALID_TIME));
        }
    }

    #[test]
    fn durations_keep_months_days_and_time_apart() {
        let slot = |months, days, nanoseconds| Ok(Slot::Duration { months, days, nanoseconds });
        check(duration("P1Y2M3DT4H5M6.7S"), slot(14, 3, 14_706_700_000_000));
        check(duration("P4W"), slot(0, 28, 0));
        check(duration("PT0S"), slot(0, 0, 0));
        check(duration("PT36H"), slot(0, 0, 129_600_000_000_000));
        check(duration("PT0.1234567891S"), Err(rule::TOO_PRECISE));
        check(duration("P200000000Y"), Err(rule::OUT_OF_RANGE));
        check(duration("PT3000000H"), Err(rule::OUT_OF_RANGE));
        for text in [
            "", "P", "PT", "P1DT", "1D", "-P1D", "P1.5D", "P1D1M", "P1D1D", "P1W1D", "PT1.S", "PT.5S", "PT1.5H", "P1",
            "P1S", "PD", "P1é",
        ] {
            check(duration(text), Err(rule::INVALID_DURATION));
        }
    }
}
