//! The rules that an event can break, each a stable code, and the place at which one was broken.

use std::fmt::Display;

use crate::types::Rejection;

/// An event is longer than [`super::MESSAGE_BYTES_MAX`], or a message of many longer than [`super::PACKED_BYTES_MAX`].
pub const MESSAGE_TOO_LARGE: &str = "MESSAGE_TOO_LARGE";
/// The message has no bytes but white space.
pub const EMPTY_MESSAGE: &str = "EMPTY_MESSAGE";
/// The message is not UTF-8.
pub const INVALID_UTF8: &str = "INVALID_UTF8";
/// The header `Content-Type` names an encoding that is not read, or is there twice with two values.
pub const UNKNOWN_CONTENT_TYPE: &str = "UNKNOWN_CONTENT_TYPE";
/// A message holds more than [`super::EVENTS_MAX`] events.
pub const TOO_MANY_EVENTS: &str = "TOO_MANY_EVENTS";
/// The bytes are not an Arrow IPC stream that ends as one, or one of a kind that is not read.
pub const INVALID_ARROW: &str = "INVALID_ARROW";
/// The text is not JSON (RFC 8259); `NaN` and `Infinity` are not.
pub const INVALID_JSON: &str = "INVALID_JSON";
/// Something follows the one document or record that a message holds.
pub const TRAILING_DATA: &str = "TRAILING_DATA";
/// The document is JSON, but not an object.
pub const NOT_AN_OBJECT: &str = "NOT_AN_OBJECT";
/// Arrays and objects are nested deeper than [`super::DEPTH_MAX`].
pub const TOO_DEEP: &str = "TOO_DEEP";
/// A number is written with more than [`super::NUMBER_BYTES_MAX`] characters.
pub const NUMBER_TOO_LONG: &str = "NUMBER_TOO_LONG";
/// A `\u` escape is half of a surrogate pair, which is no character.
pub const LONE_SURROGATE: &str = "LONE_SURROGATE";
/// An object has one key twice (a CSV header: one column twice).
pub const DUPLICATE_KEY: &str = "DUPLICATE_KEY";
/// The contract does not name the property and does not allow others.
pub const UNKNOWN_PROPERTY: &str = "UNKNOWN_PROPERTY";
/// A property is missing that is required, always or under a condition of the contract.
pub const REQUIRED: &str = "REQUIRED";
/// `null` where the contract does not allow it.
pub const NULL_NOT_ALLOWED: &str = "NULL_NOT_ALLOWED";
/// A value of another JSON type than the contract's.
pub const WRONG_TYPE: &str = "WRONG_TYPE";
/// A string has more characters than `maxLength`.
pub const MAX_LENGTH: &str = "MAX_LENGTH";
/// A value is none of `enum`, or not `const`.
pub const NOT_IN_ENUM: &str = "NOT_IN_ENUM";
/// An integer property has a fraction.
pub const NOT_AN_INTEGER: &str = "NOT_AN_INTEGER";
/// A value is outside its bounds, or outside its Arrow type.
pub const OUT_OF_RANGE: &str = "OUT_OF_RANGE";
/// A decimal has more digits behind the point than its scale; zeros at the end do not count.
pub const DECIMAL_SCALE: &str = "DECIMAL_SCALE";
/// A decimal has more digits than its precision leaves room for.
pub const DECIMAL_PRECISION: &str = "DECIMAL_PRECISION";
/// A number has no exact form in the contract's type.
pub const NOT_EXACT: &str = "NOT_EXACT";
/// A text that should be a number is none.
pub const INVALID_NUMBER: &str = "INVALID_NUMBER";
/// A text is no RFC 3339 `date-time`, or names an instant that does not exist.
pub const INVALID_TIMESTAMP: &str = "INVALID_TIMESTAMP";
/// A `date-time` without `Z` or `+HH:MM`.
pub const MISSING_OFFSET: &str = "MISSING_OFFSET";
/// A time has more digits of a second than are kept.
pub const TOO_PRECISE: &str = "TOO_PRECISE";
/// A text is no `YYYY-MM-DD`, or names a day that does not exist.
pub const INVALID_DATE: &str = "INVALID_DATE";
/// A text is no `HH:MM[:SS[.ffffff]]`.
pub const INVALID_TIME: &str = "INVALID_TIME";
/// A text is no ISO 8601 duration.
pub const INVALID_DURATION: &str = "INVALID_DURATION";
/// A CSV record breaks RFC 4180's quoting.
pub const INVALID_CSV: &str = "INVALID_CSV";
/// A CSV record has another number of fields than its header.
pub const FIELD_COUNT: &str = "FIELD_COUNT";

/// What is wrong with an event, and where. Boxed, so that the good path moves one pointer.
#[derive(Debug)]
pub(crate) struct Fault {
    place: Place,
    rule: &'static str,
    reason: String,
}

/// What checking gives: the value, or the first fault.
pub(crate) type Checked<T> = Result<T, Box<Fault>>;

#[derive(Debug)]
enum Place {
    /// An offset into the message, where its text cannot be read as a structure.
    Byte(usize),
    /// Property names and element numbers, the innermost first.
    Path(Vec<String>),
    /// A header of the message.
    Header(&'static str),
}

impl Fault {
    /// A fault of the value at hand; callers add the path by [`Fault::inside`].
    #[cold]
    pub(crate) fn new(rule: &'static str, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { place: Place::Path(Vec::new()), rule, reason: reason.into() })
    }

    /// A fault of the message's text at a byte offset.
    #[cold]
    pub(crate) fn at_byte(byte: usize, rule: &'static str, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { place: Place::Byte(byte), rule, reason: reason.into() })
    }

    /// A fault of a header.
    #[cold]
    pub(crate) fn of_header(name: &'static str, rule: &'static str, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { place: Place::Header(name), rule, reason: reason.into() })
    }

    /// The same fault seen from the object or array that holds the value.
    #[cold]
    pub(crate) fn inside(mut self: Box<Self>, step: impl Display) -> Box<Self> {
        if let Place::Path(path) = &mut self.place {
            path.push(step.to_string());
        }
        self
    }

    /// The same fault without its byte offset, which counts from the start of a part only.
    #[cold]
    pub(crate) fn of_part(mut self: Box<Self>) -> Box<Self> {
        if let Place::Byte(byte) = self.place {
            self.reason = format!("{} (byte {byte} of the value)", self.reason);
            self.place = Place::Path(Vec::new());
        }
        self
    }

    /// The same fault with a hint behind its reason, if it is of this rule.
    #[cold]
    pub(crate) fn hinted(mut self: Box<Self>, rule: &'static str, hint: &str) -> Box<Self> {
        if self.rule == rule {
            self.reason.push_str(hint);
        }
        self
    }

    /// The rejection of event `index` of a message.
    pub(crate) fn rejection(self, index: u32) -> Rejection {
        let place = match self.place {
            Place::Byte(byte) => format!("byte {byte}"),
            Place::Header(name) => format!("header {name}"),
            Place::Path(path) => path.iter().rev().map(|step| pointer_step(step)).collect(),
        };
        Rejection { index, place, rule: self.rule, reason: self.reason }
    }
}

/// A value for a reason: control characters escaped, at most 60 characters, then an ellipsis.
pub(crate) fn shorten(value: &str) -> String {
    let mut short = String::new();
    for (count, character) in value.chars().enumerate() {
        if count == SHOWN_CHARACTERS_MAX {
            short.push('…');
            break;
        }
        if character.is_control() || character == '`' {
            short.extend(character.escape_unicode());
        } else {
            short.push(character);
        }
    }
    short
}

/// One step of a JSON pointer (RFC 6901), shortened like any other value: a key may be a megabyte long.
fn pointer_step(step: &str) -> String {
    format!("/{}", shorten(step).replace('~', "~0").replace('/', "~1"))
}

const SHOWN_CHARACTERS_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_an_escaped_json_pointer_from_the_outside_in() {
        let fault = Fault::new(REQUIRED, "is required").inside("b/c~d").inside(3).inside("a");
        assert_eq!(fault.rejection(0).place, "/a/3/b~1c~0d");
    }

    #[test]
    fn byte_place_stays_when_seen_from_outside() {
        let fault = Fault::at_byte(17, INVALID_JSON, "expected value").inside("a");
        assert_eq!(
            fault.rejection(2),
            Rejection { index: 2, place: "byte 17".into(), rule: INVALID_JSON, reason: "expected value".into() }
        );
    }

    #[test]
    fn shown_value_is_cut_after_sixty_characters_and_has_no_control_characters() {
        assert_eq!(shorten(&"ä".repeat(61)), format!("{}…", "ä".repeat(60)));
        assert_eq!(shorten("a\n`b"), "a\\u{a}\\u{60}b");
    }
}
