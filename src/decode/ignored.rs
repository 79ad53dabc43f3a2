//! Properties that a contract does not name are ignored, but not unread: they must be as sound as all others.
//!
//! The walk is a loop over the tokens of a text that is known to be valid JSON, so it needs no recursion, whatever the
//! nesting. It looks at what the grammar leaves open: depth, the length of numbers, duplicate keys, surrogates.

use std::borrow::Cow;

use super::rule::{self, Checked, Fault, shorten};
use super::scalar::{plain_text, unescape};
use super::{DEPTH_MAX, NUMBER_BYTES_MAX};

/// Checks one ignored value that lies `depth` levels deep; the value itself is level `depth + 1` if it is nested.
pub(crate) fn check(json: &str, depth: usize) -> Checked<()> {
    let mut walk = Walk { json, depth, open: Vec::new(), keys: Vec::new() };
    let mut at = 0;
    while let Some(byte) = json.as_bytes().get(at) {
        at = match byte {
            b'"' => walk.string(at)?,
            b'-' | b'0'..=b'9' => walk.number(at)?,
            b'{' | b'[' => walk.enter(*byte == b'{', at)?,
            b'}' | b']' => walk.leave(at)?,
            b',' => walk.comma(at),
            _ => at + 1,
        };
    }
    Ok(())
}

/// The first of a list of keys, in the order of text, that is in it twice.
pub(crate) fn duplicate<'k, 'a>(keys: &'k mut [Cow<'a, str>]) -> Option<&'k str> {
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| &*pair[0])
}

/// The fault of a key that an object has twice.
#[cold]
pub(crate) fn duplicate_key(key: &str) -> Box<Fault> {
    Fault::new(rule::DUPLICATE_KEY, format!("key `{}` is there twice", shorten(key)))
}

struct Walk<'a> {
    json: &'a str,
    depth: usize,
    /// The objects and arrays that the walk is in, the innermost last.
    open: Vec<Frame>,
    /// The keys of all open objects.
    keys: Vec<Cow<'a, str>>,
}

struct Frame {
    object: bool,
    /// The next string of the object is a key.
    key_next: bool,
    /// Where the object's keys start.
    keys: usize,
}

impl<'a> Walk<'a> {
    fn string(&mut self, start: usize) -> Checked<usize> {
        let end = string_end(self.json.as_bytes(), start);
        let token = &self.json[start..end];
        let text = match plain_text(token) {
            Some(plain) => Cow::Borrowed(plain),
            None => Cow::Owned(unescape(token)?),
        };
        if let Some(frame) = self.open.last_mut().filter(|frame| frame.key_next) {
            frame.key_next = false;
            self.keys.push(text);
        }
        Ok(end)
    }

    fn number(&self, start: usize) -> Checked<usize> {
        let rest = &self.json[start..];
        let length = rest.bytes().position(|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        let length = length.unwrap_or(rest.len());
        check_number_length(&rest[..length])?;
        Ok(start + length)
    }

    fn enter(&mut self, object: bool, at: usize) -> Checked<usize> {
        check_depth(self.depth + self.open.len() + 1)?;
        self.open.push(Frame { object, key_next: object, keys: self.keys.len() });
        Ok(at + 1)
    }

    fn leave(&mut self, at: usize) -> Checked<usize> {
        if let Some(frame) = self.open.pop() {
            if let Some(key) = duplicate(&mut self.keys[frame.keys..]) {
                return Err(duplicate_key(key));
            }
            self.keys.truncate(frame.keys);
        }
        Ok(at + 1)
    }

    fn comma(&mut self, at: usize) -> usize {
        if let Some(frame) = self.open.last_mut() {
            frame.key_next = frame.object;
        }
        at + 1
    }
}

/// Refuses level `depth` of nesting if it is one too many.
pub(crate) fn check_depth(depth: usize) -> Checked<()> {
    if depth > DEPTH_MAX {
        return Err(Fault::new(rule::TOO_DEEP, format!("nested deeper than {DEPTH_MAX} levels")));
    }
    Ok(())
}

fn check_number_length(token: &str) -> Checked<()> {
    if token.len() > NUMBER_BYTES_MAX {
        let reason = format!("`{}` has {} characters, more than {NUMBER_BYTES_MAX}", shorten(token), token.len());
        return Err(Fault::new(rule::NUMBER_TOO_LONG, reason));
    }
    Ok(())
}

/// The offset behind the closing quote of the string that starts at `start`.
fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_rule(json: &str, expected: Result<(), &str>) {
        assert!(serde_json::from_str::<&serde_json::value::RawValue>(json).is_ok(), "{json} is not JSON");
        assert_eq!(check(json, 1).map_err(|fault| fault.rejection(0).rule), expected, "{json}");
    }

    #[test]
    fn ignored_value_must_be_sound() {
        for json in [
            "1",
            "\"a\\\"b\"",
            "null",
            "true",
            "{}",
            "[]",
            "[{}, {}]",
            r#"{"a": "a", "b": {"a": [1, "a", "a"]}}"#,
            r#"{"a": [{"a": 1}, {"a": 2}], "b": "\\"}"#,
            "1e999",
            r#""\ud83d\ude9a""#,
        ] {
            check_rule(json, Ok(()));
        }
        check_rule(r#"{"a": 1, "a": 2}"#, Err(rule::DUPLICATE_KEY));
        check_rule(r#"{"a": 1, "b": {"c": 1}, "\u0061": 2}"#, Err(rule::DUPLICATE_KEY));
        check_rule(r#"[0, {"b": {"c": 1, "c": 1}}]"#, Err(rule::DUPLICATE_KEY));
        check_rule(r#"["\ud83d"]"#, Err(rule::LONE_SURROGATE));
        check_rule(r#"{"\udc00": 1}"#, Err(rule::LONE_SURROGATE));
        check_rule(&format!("[{}]", "9".repeat(100_000)), Err(rule::NUMBER_TOO_LONG));
    }

    #[test]
    fn nesting_is_refused_exactly_above_the_cap() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        check_rule(&nested(DEPTH_MAX - 1), Ok(()));
        check_rule(&nested(DEPTH_MAX), Err(rule::TOO_DEEP));
        check_rule(&nested(400_000), Err(rule::TOO_DEEP));
    }

    /// The slow, obvious version: a recursive reading of the whole document.
    fn has_duplicate(json: &str) -> bool {
        struct Unique;
        impl<'de> serde::de::Visitor<'de> for Unique {
            type Value = ();
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("anything")
            }
            fn visit_unit<E>(self) -> Result<(), E> {
                Ok(())
            }
            fn visit_u64<E>(self, _: u64) -> Result<(), E> {
                Ok(())
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
                while seq.next_element_seed(Self)?.is_some() {}
                Ok(())
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
                let mut keys = std::collections::HashSet::new();
                while let Some(key) = map.next_key::<String>()? {
                    map.next_value_seed(Self)?;
                    if !keys.insert(key) {
                        return Err(serde::de::Error::custom("twice"));
                    }
                }
                Ok(())
            }
        }
        impl<'de> serde::de::DeserializeSeed<'de> for Unique {
            type Value = ();
            fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.deserialize_any(self)
            }
        }
        serde::de::DeserializeSeed::deserialize(Unique, &mut serde_json::Deserializer::from_str(json)).is_err()
    }

    fn document() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![Just("null".to_owned()), Just("17".to_owned())];
        let key = prop_oneof![Just("a"), Just("b"), Just("\\u0061"), Just("\\\""), Just("{"), Just("c,"), Just("\\\\")];
        leaf.prop_recursive(4, 40, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
                prop::collection::vec((key.clone(), inner), 0..4).prop_map(|items| {
                    let items: Vec<_> = items.iter().map(|(key, value)| format!("\"{key}\" :{value}")).collect();
                    format!("{{{}}}", items.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn duplicate_is_found_exactly_when_a_recursive_reader_finds_it(json in document()) {
            prop_assert_eq!(check(&json, 1).is_err(), has_duplicate(&json), "{}", json);
        }
    }
}
