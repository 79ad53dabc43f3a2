//! Single values: from a JSON token or from a plain text to the slot that the contract's kind asks for.

use super::number::{Numeral, decimal_text};
use super::rule::{self, Checked, Fault, shorten};
use super::slot::{Scratch, Slot, Texts};
use super::time;
use crate::definition::contract::Kind;

/// A scalar from its JSON token, which is valid JSON and not `null`. Bounds are not looked at.
pub(crate) fn from_json(kind: &Kind, token: &str, message: &str, scratch: &mut Scratch) -> Checked<Slot> {
    match (kind, token.as_bytes()) {
        (Kind::Text { .. }, [b'"', ..]) => {
            let text = match plain_text(token) {
                Some(plain) => scratch.text(message, plain),
                None => scratch.own_text(&unescape(token)?),
            };
            Ok(Slot::Text(text))
        }
        (Kind::Decimal { .. } | Kind::Timestamp { .. } | Kind::Date | Kind::Time | Kind::Duration, [b'"', ..]) => {
            match plain_text(token) {
                Some(plain) => from_text(kind, plain),
                None => from_text(kind, &unescape(token)?),
            }
        }
        (Kind::Integer { .. } | Kind::Number { .. } | Kind::Decimal { .. }, [b'-' | b'0'..=b'9', ..]) => {
            from_text(kind, token)
        }
        (Kind::Boolean, b"true") => Ok(Slot::Boolean(true)),
        (Kind::Boolean, b"false") => Ok(Slot::Boolean(false)),
        _ => Err(wrong_type(kind_name(kind), token)),
    }
}

/// A scalar that is not a text of its own, from a CSV cell, a JSON string or number, or a contract's constant.
pub(crate) fn from_text(kind: &Kind, text: &str) -> Checked<Slot> {
    match kind {
        Kind::Boolean => match text {
            "true" => Ok(Slot::Boolean(true)),
            "false" => Ok(Slot::Boolean(false)),
            _ => Err(wrong_type(kind_name(kind), text)),
        },
        Kind::Integer { .. } => Numeral::parse(text)?.integer(),
        Kind::Number { .. } => Numeral::parse(text)?.double(),
        Kind::Decimal { precision, scale, .. } => Numeral::parse(text)?.decimal(*precision, *scale),
        Kind::Timestamp { nanoseconds, .. } => time::timestamp(text, *nanoseconds),
        Kind::Date => time::date(text),
        Kind::Time => time::time(text),
        Kind::Duration => time::duration(text),
        Kind::Text { .. } | Kind::Object(_) | Kind::Array { .. } => Err(wrong_type(kind_name(kind), text)),
    }
}

/// Whether a value lies within the bounds of a kind; values that are null or of another kind do.
pub(crate) fn check_bounds(kind: &Kind, slot: &Slot, texts: &Texts<'_>) -> Checked<()> {
    match (kind, slot) {
        (Kind::Text { max_length: Some(most) }, Slot::Text(text)) => {
            let text = texts.get(*text);
            // A text has at most as many characters as bytes.
            if text.len() > *most && text.chars().count() > *most {
                let reason = format!("`{}` has more than {most} characters", shorten(text));
                return Err(Fault::new(rule::MAX_LENGTH, reason));
            }
            Ok(())
        }
        (Kind::Integer { minimum, maximum }, Slot::Integer(value)) => {
            check_range(*value, *minimum, *maximum, |value| value.to_string())
        }
        (Kind::Number { minimum, maximum }, Slot::Number(value)) => {
            check_range(*value, *minimum, *maximum, |value| value.to_string())
        }
        (Kind::Decimal { minimum, maximum, scale, .. }, Slot::Decimal(value)) => {
            check_range(*value, *minimum, *maximum, |value| decimal_text(value, *scale))
        }
        (Kind::Timestamp { minimum, maximum, .. }, Slot::Integer(value)) => {
            check_range(*value, *minimum, *maximum, time::timestamp_text)
        }
        _ => Ok(()),
    }
}

/// A JSON string token's text where it has no escapes: the token without its quotes.
pub(crate) fn plain_text(token: &str) -> Option<&str> {
    let text = token.get(1..token.len().checked_sub(1)?)?;
    (!text.as_bytes().contains(&b'\\')).then_some(text)
}

/// A JSON string token's text, escapes resolved.
pub(crate) fn unescape(token: &str) -> Checked<String> {
    serde_json::from_str(token)
        .map_err(|_| Fault::new(rule::LONE_SURROGATE, format!("`{}` has half of a surrogate pair", shorten(token))))
}

/// The fault of a value that is of another JSON type.
#[cold]
pub(crate) fn wrong_type(expected: &str, token: &str) -> Box<Fault> {
    Fault::new(rule::WRONG_TYPE, format!("`{}` is not {expected}", shorten(token)))
}

fn check_range<T: PartialOrd + Copy>(
    value: T,
    minimum: Option<T>,
    maximum: Option<T>,
    show: impl Fn(T) -> String,
) -> Checked<()> {
    if let Some(minimum) = minimum.filter(|minimum| value < *minimum) {
        return Err(Fault::new(rule::OUT_OF_RANGE, format!("`{}` is less than `{}`", show(value), show(minimum))));
    }
    if let Some(maximum) = maximum.filter(|maximum| value > *maximum) {
        return Err(Fault::new(rule::OUT_OF_RANGE, format!("`{}` is more than `{}`", show(value), show(maximum))));
    }
    Ok(())
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text { .. } => "a string",
        Kind::Boolean => "a boolean",
        Kind::Integer { .. } => "an integer",
        Kind::Number { .. } => "a number",
        Kind::Decimal { .. } => "a decimal, as a number or a string",
        Kind::Timestamp { .. } => "a date-time string",
        Kind::Date => "a date string",
        Kind::Time => "a time string",
        Kind::Duration => "a duration string",
        Kind::Object(_) => "an object",
        Kind::Array { .. } => "an array",
    }
}
