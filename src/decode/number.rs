//! Numbers, read exactly from their text: the value is `digits × 10^exponent`, and what does not fit is refused.

use super::NUMBER_BYTES_MAX;
use super::rule::{self, Checked, Fault, shorten};
use super::slot::Slot;

/// A number as JSON writes it: `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numeral<'a> {
    text: &'a str,
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    /// Held within ±1,000,000, which no digits that the length cap allows can bring back into range.
    exponent: i64,
}

/// Why a number has no unscaled value of so many digits at a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Misfit {
    Fraction,
    Digits,
}

impl<'a> Numeral<'a> {
    /// Reads a whole text; `INVALID_NUMBER` when it is no JSON number, `NUMBER_TOO_LONG` before looking at it closer.
    pub(crate) fn parse(text: &'a str) -> Checked<Self> {
        if text.len() > NUMBER_BYTES_MAX {
            return Err(Fault::new(
                rule::NUMBER_TOO_LONG,
                format!("`{}` has {} characters, more than {NUMBER_BYTES_MAX}", shorten(text), text.len()),
            ));
        }
        Self::scan(text).ok_or_else(|| Fault::new(rule::INVALID_NUMBER, format!("`{}` is not a number", shorten(text))))
    }

    fn scan(text: &'a str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let (whole, rest) = digits(rest);
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with(b"0")) {
            return None;
        }
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => digits(rest),
            rest => (&rest[..0], rest),
        };
        if fraction.is_empty() && text.as_bytes().get(usize::from(negative) + whole.len()) == Some(&b'.') {
            return None;
        }
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => exponent(rest)?,
            _ => return None,
        };
        Some(Self { text, negative, whole, fraction, exponent })
    }

    /// The value times `10^scale`, when that is an integer of at most `digits_max` (at most 38) digits.
    fn unscaled(&self, scale: i64, digits_max: usize) -> Result<i128, Misfit> {
        let fraction = trim_end(self.fraction);
        let whole = if fraction.is_empty() { trim_end(self.whole) } else { self.whole };
        let dropped = if fraction.is_empty() { self.whole.len() - whole.len() } else { 0 };
        let (whole, fraction) = if whole == b"0" { (&whole[1..], fraction) } else { (whole, fraction) };
        let significant = match whole {
            [] => trim_start(fraction).len(),
            _ => whole.len() + fraction.len(),
        };
        if significant == 0 {
            return Ok(0);
        }
        let shift = self.exponent + scale + as_i64(dropped) - as_i64(fraction.len());
        let shift = usize::try_from(shift).map_err(|_| Misfit::Fraction)?;
        if significant + shift > digits_max {
            return Err(Misfit::Digits);
        }
        let mut value: i128 = 0;
        for digit in whole.iter().chain(fraction) {
            value = value * 10 + i128::from(digit - b'0');
        }
        for _ in 0..shift {
            value *= 10;
        }
        Ok(if self.negative { -value } else { value })
    }

    /// The unscaled value at `scale`, exactly.
    pub(crate) fn decimal(&self, precision: u8, scale: i8) -> Checked<Slot> {
        self.unscaled(i64::from(scale), usize::from(precision)).map(Slot::Decimal).map_err(|misfit| match misfit {
            Misfit::Fraction => {
                self.fault(rule::DECIMAL_SCALE, format!("has more than {scale} digits behind the point"))
            }
            Misfit::Digits => self.fault(
                rule::DECIMAL_PRECISION,
                format!("does not fit a decimal of {precision} digits, {scale} behind the point"),
            ),
        })
    }

    /// The value as an integer; `1.0` and `1e2` are integers, as in JSON Schema.
    pub(crate) fn integer(&self) -> Checked<Slot> {
        match self.unscaled(0, INTEGER_DIGITS_MAX).map(i64::try_from) {
            Ok(Ok(value)) => Ok(Slot::Integer(value)),
            Err(Misfit::Fraction) => Err(self.fault(rule::NOT_AN_INTEGER, "is not an integer".into())),
            Ok(Err(_)) | Err(Misfit::Digits) => {
                Err(self.fault(rule::OUT_OF_RANGE, "does not fit a 64-bit integer".into()))
            }
        }
    }

    /// The nearest double; one beyond the largest is refused.
    pub(crate) fn double(&self) -> Checked<Slot> {
        match self.text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Slot::Number(value)),
            _ => Err(self.fault(rule::OUT_OF_RANGE, "does not fit a double".into())),
        }
    }

    #[cold]
    fn fault(&self, rule: &'static str, what: String) -> Box<Fault> {
        Fault::new(rule, format!("`{}` {what}", shorten(self.text)))
    }
}

/// A decimal for a reason, from its unscaled value.
pub(crate) fn decimal_text(unscaled: i128, scale: i8) -> String {
    let Ok(places) = usize::try_from(scale) else {
        return format!("{unscaled}e{}", scale.unsigned_abs());
    };
    let scale @ 1.. = places else {
        return unscaled.to_string();
    };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{fraction}", if unscaled < 0 { "-" } else { "" })
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn exponent(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        rest => (1, rest),
    };
    match digits(rest) {
        ([], _) | (_, [_, ..]) => None,
        (digits, []) => {
            let size =
                digits.iter().fold(0, |size: i64, digit| (size * 10 + i64::from(digit - b'0')).min(EXPONENT_MAX));
            Some(sign * size)
        }
    }
}

fn trim_end(mut digits: &[u8]) -> &[u8] {
    while let [rest @ .., b'0'] = digits {
        digits = rest;
    }
    digits
}

fn trim_start(mut digits: &[u8]) -> &[u8] {
    while let [b'0', rest @ ..] = digits {
        digits = rest;
    }
    digits
}

/// Lengths here are below [`NUMBER_BYTES_MAX`].
fn as_i64(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

const EXPONENT_MAX: i64 = 1_000_000;
const INTEGER_DIGITS_MAX: usize = 19;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<i128, &str>) {
        let outcome = Numeral::parse(text).and_then(|numeral| numeral.decimal(18, 3));
        let outcome = outcome.map_err(|fault| fault.rejection(0).rule);
        assert_eq!(outcome, expected.map(Slot::Decimal), "{text}");
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        check("0", Ok(0));
        check("-0.000", Ok(0));
        check("12.345", Ok(12_345));
        check("-12.3", Ok(-12_300));
        check("12.34500000", Ok(12_345));
        check("12.3456", Err(rule::DECIMAL_SCALE));
        check("100", Ok(100_000));
        check("1e2", Ok(100_000));
        check("1E+2", Ok(100_000));
        check("1200e-5", Ok(12));
        check("1205e-5", Err(rule::DECIMAL_SCALE));
        check("0.0012e4", Ok(12_000));
        check("0e999999999999", Ok(0));
        check("1e999999999999", Err(rule::DECIMAL_PRECISION));
        check("1e-999999999999", Err(rule::DECIMAL_SCALE));
        check("999999999999999.999", Ok(999_999_999_999_999_999));
        check("1000000000000000", Err(rule::DECIMAL_PRECISION));
        check(&"9".repeat(100), Err(rule::DECIMAL_PRECISION));
        check(&"9".repeat(100_000), Err(rule::NUMBER_TOO_LONG));
        for text in
            ["", "-", "+1", "01", ".5", "5.", "1e", "1e+", "1.e1", "NaN", "Infinity", "1 ", " 1", "0x1", "1_000", "１"]
        {
            check(text, Err(rule::INVALID_NUMBER));
        }
    }

    #[test]
    fn integers_are_exact_or_refused() {
        let check = |text: &str, expected: Result<i64, &str>| {
            let outcome = Numeral::parse(text).and_then(|numeral| numeral.integer());
            assert_eq!(outcome.map_err(|fault| fault.rejection(0).rule), expected.map(Slot::Integer), "{text}");
        };
        check("9223372036854775807", Ok(i64::MAX));
        check("-9223372036854775808", Ok(i64::MIN));
        check("9223372036854775808", Err(rule::OUT_OF_RANGE));
        check("9007199254740993", Ok(9_007_199_254_740_993));
        check("9007199254740993.0", Ok(9_007_199_254_740_993));
        check("1.0", Ok(1));
        check("1e2", Ok(100));
        check("1.9", Err(rule::NOT_AN_INTEGER));
        check("-0", Ok(0));
        check("1e400", Err(rule::OUT_OF_RANGE));
    }

    #[test]
    fn doubles_are_finite() {
        let check = |text: &str, expected: Result<f64, &str>| {
            let outcome = Numeral::parse(text).and_then(|numeral| numeral.double());
            assert_eq!(outcome.map_err(|fault| fault.rejection(0).rule), expected.map(Slot::Number), "{text}");
        };
        check("0.1", Ok(0.1));
        check("1.7976931348623157e308", Ok(f64::MAX));
        check("1e999", Err(rule::OUT_OF_RANGE));
        check("1e-999", Ok(0.0));
    }

    #[test]
    fn decimal_text_has_the_digits_of_its_scale() {
        assert_eq!(decimal_text(-5, 3), "-0.005");
        assert_eq!(decimal_text(12_345, 3), "12.345");
        assert_eq!(decimal_text(7, 0), "7");
        assert_eq!(decimal_text(-7, -3), "-7e3");
    }

    /// Writes an unscaled value with the point moved by an exponent and zeros added at either side.
    fn spelling(unscaled: i128, scale: i8, moved: i32, zeros: usize) -> String {
        let sign = if unscaled < 0 { "-" } else { "" };
        let point = i64::from(scale) + i64::from(moved);
        let digits = format!("{}{}", unscaled.unsigned_abs(), "0".repeat(zeros));
        let point = point + zeros as i64;
        let exponent = if moved == 0 { String::new() } else { format!("e{moved}") };
        if point <= 0 {
            let exponent = i64::from(moved) - point;
            return format!("{sign}{digits}e{exponent}");
        }
        let point = usize::try_from(point).unwrap();
        let digits = format!("{digits:0>width$}", width = point + 1);
        let (whole, fraction) = digits.split_at(digits.len() - point);
        format!("{sign}{whole}.{fraction}{exponent}")
    }

    proptest! {
        #[test]
        fn every_spelling_of_a_decimal_gives_its_unscaled_value(
            unscaled in -10_i128.pow(28) + 1..10_i128.pow(28),
            scale in 0_i8..=28,
            moved in -60_i32..60,
            zeros in 0_usize..40,
        ) {
            let text = spelling(unscaled, scale, moved, zeros);
            let slot = Numeral::parse(&text).and_then(|numeral| numeral.decimal(28, scale));
            prop_assert_eq!(slot.unwrap(), Slot::Decimal(unscaled), "{}", text);
        }

        #[test]
        fn digit_beyond_the_scale_is_refused(unscaled in -10_i128.pow(20)..10_i128.pow(20), moved in -60_i32..60) {
            prop_assume!(unscaled % 10 != 0);
            let text = spelling(unscaled, 4, moved, 0);
            let fault = Numeral::parse(&text).and_then(|numeral| numeral.decimal(28, 3)).unwrap_err();
            prop_assert_eq!(fault.rejection(0).rule, rule::DECIMAL_SCALE, "{}", text);
        }

        #[test]
        fn number_is_accepted_exactly_when_json_has_it(text in "-?[0-9]{0,3}\\.?[0-9]{0,3}[eE]?[+-]?[0-9]{0,2}") {
            let json = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(Numeral::parse(&text).is_ok(), json, "{}", text);
        }
    }
}
