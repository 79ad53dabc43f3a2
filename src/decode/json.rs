//! One JSON document to slots: serde_json reads the grammar, the contract decides about every value.
//!
//! An object is read once by serde_json, which yields its keys and the raw text of its values. Raw text keeps numbers
//! exact, and gives each value its own place. Nested objects and arrays of the contract are read again from their raw
//! text, so a value is scanned as often as the *contract* nests, never as often as the message does.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::EVENTS_MAX;
use super::ignored::{self, check_depth, duplicate, duplicate_key};
use super::rule::{self, Checked, Fault, shorten};
use super::scalar;
use super::shape::{Form, Plan, Property, Shape};
use super::slot::{Scratch, Slot, Texts, offset_in};

/// Reads the values of one event into its scratch.
pub(crate) struct Reader<'r, 'b> {
    pub(crate) plan: &'r Plan,
    /// What texts are kept as parts of; empty where the JSON does not outlive the event.
    pub(crate) message: &'b str,
    pub(crate) scratch: &'r mut Scratch,
}

impl<'r, 'b> Reader<'r, 'b> {
    /// Reads a whole document, a part of the message, into the bottom of the stack. Required properties, conditions and
    /// defaults are left to the caller.
    pub(crate) fn document(&mut self, json: &'b str) -> Checked<()> {
        let plan = self.plan;
        if json.trim_start_matches(WHITE_SPACE).starts_with('{') {
            return self.object(&plan.root, json, 1).map(|_| ());
        }
        let value: &RawValue = serde_json::from_str(json).map_err(|error| self.not_json(json, &error))?;
        Err(Fault::new(rule::NOT_AN_OBJECT, format!("`{}` is not an object", shorten(value.get()))))
    }

    /// Reads the value of a property from its JSON text.
    pub(crate) fn value(&mut self, property: &'r Property, json: &'b str, depth: usize) -> Checked<Slot> {
        let slot = match json {
            "null" if property.nullable => Slot::Null,
            "null" => return Err(Fault::new(rule::NULL_NOT_ALLOWED, "null is not allowed")),
            json => self.form(&property.form, json, depth)?,
        };
        self.allowed(property, slot, json)
    }

    /// The constant that a value equals, where a property has only these.
    pub(crate) fn allowed(&self, property: &Property, slot: Slot, shown: &str) -> Checked<Slot> {
        property.allow(slot, &self.texts(), || shown.trim_matches('"').to_owned())
    }

    pub(crate) fn texts(&self) -> Texts<'_> {
        Texts { message: self.message, unescaped: &self.scratch.unescaped, contract: &self.plan.texts }
    }

    fn form(&mut self, form: &'r Form, json: &'b str, depth: usize) -> Checked<Slot> {
        match form {
            Form::Scalar(kind) => {
                let slot = scalar::from_json(kind, json, self.message, self.scratch)?;
                scalar::check_bounds(kind, &slot, &self.texts())?;
                Ok(slot)
            }
            Form::Object(shape) if json.starts_with('{') => {
                let mark = self.object(shape, json, depth + 1)?;
                let slots = &mut self.scratch.stack[mark..];
                shape.require(slots)?;
                shape.fill(slots);
                Ok(self.scratch.close(mark))
            }
            Form::Array { element, nullable } if json.starts_with('[') => {
                self.array(element, *nullable, json, depth + 1)
            }
            Form::Object(_) => Err(scalar::wrong_type("an object", json)),
            Form::Array { .. } => Err(scalar::wrong_type("an array", json)),
        }
    }

    /// Reads an object's properties; returns where on the stack they start.
    fn object(&mut self, shape: &'r Shape, json: &'b str, depth: usize) -> Checked<usize> {
        check_depth(depth)?;
        let mark = self.scratch.open(shape.properties.len());
        let mut fault = None;
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let visitor = ObjectVisitor { reader: self, shape, mark, depth, fault: &mut fault };
        let read = deserializer.deserialize_map(visitor);
        match (fault, read) {
            (Some(fault), _) => Err(fault),
            (None, Err(error)) => Err(self.not_json(json, &error)),
            (None, Ok(())) => match deserializer.end() {
                Ok(()) => Ok(mark),
                Err(error) => Err(trailing(self.message, json, &error)),
            },
        }
    }

    fn array(&mut self, element: &'r Form, nullable: bool, json: &'b str, depth: usize) -> Checked<Slot> {
        check_depth(depth)?;
        let mark = self.scratch.open(0);
        let mut fault = None;
        let visitor = ArrayVisitor { reader: self, element, nullable, depth, fault: &mut fault };
        let read = serde_json::Deserializer::from_str(json).deserialize_seq(visitor);
        match (fault, read) {
            (Some(fault), _) => Err(fault),
            (None, Err(error)) => Err(self.not_json(json, &error)),
            (None, Ok(())) => Ok(self.scratch.close(mark)),
        }
    }

    fn element(&mut self, form: &'r Form, nullable: bool, json: &'b str, depth: usize) -> Checked<Slot> {
        match json {
            "null" if nullable => Ok(Slot::Null),
            "null" => Err(Fault::new(rule::NULL_NOT_ALLOWED, "null is not allowed")),
            json => self.form(form, json, depth),
        }
    }

    fn property(&mut self, shape: &'r Shape, mark: usize, at: usize, json: &'b str, depth: usize) -> Checked<()> {
        let property = &shape.properties[at];
        if !self.scratch.stack[mark + at].is_absent() {
            return Err(duplicate_key(&property.name));
        }
        let slot = self.value(property, json, depth)?;
        self.scratch.stack[mark + at] = slot;
        Ok(())
    }

    fn not_json(&self, json: &str, error: &serde_json::Error) -> Box<Fault> {
        not_json(self.message, json, error)
    }
}

/// The elements of a whole text that is one JSON array, as parts of the text. The first fault of the grammar, wherever it
/// is, is the fault of all: where one element ends and the next begins is known only of sound JSON.
pub(crate) fn elements(text: &str) -> Checked<Vec<&str>> {
    let mut too_many = false;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer.deserialize_seq(ElementsVisitor { too_many: &mut too_many });
    if too_many {
        return Err(too_many_events());
    }
    let elements = read.map_err(|error| not_json(text, text, &error))?;
    deserializer.end().map_err(|error| trailing(text, text, &error))?;
    Ok(elements)
}

/// The fault of a message with more than [`EVENTS_MAX`] events.
#[cold]
pub(crate) fn too_many_events() -> Box<Fault> {
    Fault::new(rule::TOO_MANY_EVENTS, format!("the message has more than {EVENTS_MAX} events"))
}

/// The fault of `json`, a part of `message`, that serde_json does not read.
#[cold]
fn not_json(message: &str, json: &str, error: &serde_json::Error) -> Box<Fault> {
    let what = error.to_string();
    let what = what.split_once(" at line ").map_or(&*what, |(what, _)| what);
    Fault::at_byte(byte(message, json, error), rule::INVALID_JSON, format!("not JSON: {what}"))
}

#[cold]
fn trailing(message: &str, json: &str, error: &serde_json::Error) -> Box<Fault> {
    Fault::at_byte(byte(message, json, error), rule::TRAILING_DATA, "something follows the document")
}

/// Where in the message serde_json stopped.
fn byte(message: &str, json: &str, error: &serde_json::Error) -> usize {
    let base = offset_in(message, json).unwrap_or(0);
    if error.is_eof() {
        return base + json.len();
    }
    let line: usize = json.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let byte = (line + error.column().saturating_sub(1)).min(json.len());
    // Of a control character in a value serde_json names the byte before.
    let control = error.to_string().starts_with("control character");
    let rest = json.as_bytes()[byte..].iter().position(|byte| control && byte.is_ascii_control());
    base + byte + rest.unwrap_or(0)
}

/// The white space of JSON.
pub(crate) const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

struct ObjectVisitor<'v, 'r, 'b> {
    reader: &'v mut Reader<'r, 'b>,
    shape: &'r Shape,
    mark: usize,
    depth: usize,
    /// Why the visit ended early; serde's own errors have no room for it.
    fault: &'v mut Option<Box<Fault>>,
}

impl<'b> Visitor<'b> for ObjectVisitor<'_, '_, 'b> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'b>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { reader, shape, mark, depth, fault } = self;
        let mut expected = 0;
        let mut unknown: Vec<Cow<'b, str>> = Vec::new();
        while let Some(key) = map.next_key_seed(KeySeed { shape, expected })? {
            let json = map.next_value::<&'b RawValue>()?.get();
            let read = match key {
                Key::Known(at) => {
                    expected = at + 1;
                    let read = reader.property(shape, mark, at, json, depth);
                    read.map_err(|fault| fault.inside(&shape.properties[at].name))
                }
                Key::Unknown(name) if reader.plan.additional => {
                    let read = ignored::check(json, depth).map_err(|fault| fault.inside(&name));
                    unknown.push(name);
                    read
                }
                Key::Unknown(name) => Err(unknown_property(&name)),
            };
            if let Err(found) = read {
                *fault = Some(found);
                return Err(A::Error::custom("fault"));
            }
        }
        if let Some(key) = duplicate(&mut unknown) {
            *fault = Some(duplicate_key(key).inside(key));
            return Err(A::Error::custom("fault"));
        }
        Ok(())
    }
}

struct ArrayVisitor<'v, 'r, 'b> {
    reader: &'v mut Reader<'r, 'b>,
    element: &'r Form,
    nullable: bool,
    depth: usize,
    fault: &'v mut Option<Box<Fault>>,
}

impl<'b> Visitor<'b> for ArrayVisitor<'_, '_, 'b> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'b>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(json) = seq.next_element::<&'b RawValue>()? {
            match self.reader.element(self.element, self.nullable, json.get(), self.depth) {
                Ok(slot) => self.reader.scratch.stack.push(slot),
                Err(found) => {
                    *self.fault = Some(found.inside(index));
                    return Err(A::Error::custom("fault"));
                }
            }
            index += 1;
        }
        Ok(())
    }
}

struct ElementsVisitor<'v> {
    /// Set where the array has more elements than a message may hold.
    too_many: &'v mut bool,
}

impl<'b> Visitor<'b> for ElementsVisitor<'_> {
    type Value = Vec<&'b str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'b>>(self, mut seq: A) -> Result<Vec<&'b str>, A::Error> {
        let mut elements = Vec::new();
        while let Some(json) = seq.next_element::<&'b RawValue>()? {
            if elements.len() == EVENTS_MAX {
                *self.too_many = true;
                return Err(A::Error::custom("fault"));
            }
            elements.push(json.get());
        }
        Ok(elements)
    }
}

/// An object's key, looked up.
enum Key<'b> {
    Known(usize),
    Unknown(Cow<'b, str>),
}

struct KeySeed<'r> {
    shape: &'r Shape,
    expected: usize,
}

impl<'b> DeserializeSeed<'b> for KeySeed<'_> {
    type Value = Key<'b>;

    fn deserialize<D: serde::Deserializer<'b>>(self, deserializer: D) -> Result<Key<'b>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'b> Visitor<'b> for KeySeed<'_> {
    type Value = Key<'b>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'b str) -> Result<Key<'b>, E> {
        Ok(self.shape.find(key, self.expected).map_or(Key::Unknown(Cow::Borrowed(key)), Key::Known))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'b>, E> {
        Ok(self.shape.find(key, self.expected).map_or_else(|| Key::Unknown(Cow::Owned(key.to_owned())), Key::Known))
    }
}

/// The fault of a name that a contract does not have and does not allow.
#[cold]
pub(crate) fn unknown_property(name: &str) -> Box<Fault> {
    Fault::new(rule::UNKNOWN_PROPERTY, format!("the contract has no property `{}`", shorten(name))).inside(name)
}
