//! A contract made ready for decoding: names indexed, constants turned into the slots that a value would become.

use hashbrown::HashMap;

use super::rule::{self, Checked, Fault, shorten};
use super::scalar;
use super::slot::{Slot, Texts, intern};
use crate::definition::contract::{Column, Contract, Kind, Value};

/// A contract as the decoder uses it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) root: Shape,
    pub(crate) conditions: Vec<Condition>,
    /// Whether properties that the contract does not name are accepted.
    pub(crate) additional: bool,
    /// All text constants.
    pub(crate) texts: String,
}

/// The properties of one object.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) properties: Vec<Property>,
    names: HashMap<Box<str>, usize>,
}

/// One property.
#[derive(Debug)]
pub(crate) struct Property {
    pub(crate) name: Box<str>,
    pub(crate) form: Form,
    pub(crate) required: bool,
    pub(crate) nullable: bool,
    pub(crate) default: Option<Slot>,
    /// The only values allowed. A value that equals one of them becomes this very slot.
    pub(crate) allowed: Option<Vec<Slot>>,
}

/// What a value looks like.
#[derive(Debug)]
pub(crate) enum Form {
    Scalar(Kind),
    Object(Shape),
    Array { element: Box<Form>, nullable: bool },
}

/// One `allOf` entry of a contract.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) when: Vec<(usize, Vec<Slot>)>,
    pub(crate) required: Vec<usize>,
    pub(crate) bounds: Vec<(usize, Kind)>,
}

impl Plan {
    /// Panics if a constant is not of its column's kind, a default is a null that its column does not allow, or a
    /// condition names no column: the compiler of contracts rules them out.
    pub(crate) fn new(contract: &Contract) -> Self {
        let mut texts = String::new();
        let root = Shape::new(&contract.columns, &mut texts);
        let conditions = contract.conditions.iter().map(|condition| {
            let when = condition.when.iter().map(|(column, values)| {
                let kind = &contract.columns[*column].kind;
                (*column, values.iter().map(|value| constant(kind, value, &mut texts)).collect())
            });
            Condition { when: when.collect(), required: condition.required.clone(), bounds: condition.bounds.clone() }
        });
        let conditions = conditions.collect();
        Self { root, conditions, additional: contract.additional, texts }
    }
}

impl Shape {
    fn new(columns: &[Column], texts: &mut String) -> Self {
        let properties: Vec<_> = columns.iter().map(|column| Property::new(column, texts)).collect();
        let names = properties.iter().enumerate().map(|(at, property)| (property.name.clone(), at)).collect();
        Self { properties, names }
    }

    /// The property of a name. Producers keep an order, so `expected`, the one after the last found, is tried first.
    pub(crate) fn find(&self, name: &str, expected: usize) -> Option<usize> {
        match self.properties.get(expected) {
            Some(property) if *property.name == *name => Some(expected),
            _ => self.names.get(name).copied(),
        }
    }

    /// Refuses an object that lacks a required property.
    pub(crate) fn require(&self, slots: &[Slot]) -> Checked<()> {
        for (property, slot) in self.properties.iter().zip(slots) {
            if property.required && slot.is_absent() {
                return Err(
                    Fault::new(rule::REQUIRED, format!("`{}` is required", property.name)).inside(&property.name)
                );
            }
        }
        Ok(())
    }

    /// Gives absent properties their defaults, or null.
    pub(crate) fn fill(&self, slots: &mut [Slot]) {
        for (property, slot) in self.properties.iter().zip(slots) {
            if slot.is_absent() {
                *slot = property.default.unwrap_or(Slot::Null);
            }
        }
    }
}

impl Property {
    fn new(column: &Column, texts: &mut String) -> Self {
        let null_default = column.default == Some(Value::Null);
        assert!(column.nullable || !null_default, "default of `{}` is null, which it does not allow", column.name);
        let default = column.default.as_ref().map(|value| constant(&column.kind, value, texts));
        let allowed = column.allowed.as_ref();
        let allowed = allowed.map(|values| values.iter().map(|value| constant(&column.kind, value, texts)).collect());
        Self {
            name: column.name.as_str().into(),
            form: Form::new(&column.kind, texts),
            required: column.required,
            nullable: column.nullable,
            default: default.filter(|slot| *slot != Slot::Null),
            allowed,
        }
    }
}

impl Property {
    /// The constant that a value equals, where the property has only these; `shown` is the value for a person.
    pub(crate) fn allow(&self, slot: Slot, texts: &Texts<'_>, shown: impl FnOnce() -> String) -> Checked<Slot> {
        let Some(allowed) = &self.allowed else {
            return Ok(slot);
        };
        allowed.iter().copied().find(|constant| texts.same(constant, &slot)).ok_or_else(|| {
            Fault::new(rule::NOT_IN_ENUM, format!("`{}` is none of the values allowed", shorten(&shown())))
        })
    }
}

impl Form {
    fn new(kind: &Kind, texts: &mut String) -> Self {
        match kind {
            Kind::Object(columns) => Self::Object(Shape::new(columns, texts)),
            Kind::Array { element, nullable } => {
                Self::Array { element: Box::new(Self::new(element, texts)), nullable: *nullable }
            }
            scalar => Self::Scalar(scalar.clone()),
        }
    }
}

impl Condition {
    /// Checks an event's properties before defaults are filled in: an absent one counts as its default in `when` and in
    /// bounds (without one as null), but is missing where the condition requires it.
    pub(crate) fn check(&self, shape: &Shape, slots: &[Slot], texts: &Texts<'_>) -> Checked<()> {
        let value = |column: usize| match &slots[column] {
            Slot::Absent => shape.properties[column].default.as_ref().unwrap_or(&Slot::Null),
            slot => slot,
        };
        let among = |column: usize, values: &[Slot]| values.iter().any(|constant| texts.same(constant, value(column)));
        if !self.when.iter().all(|(column, values)| among(*column, values)) {
            return Ok(());
        }
        for column in &self.required {
            if matches!(slots[*column], Slot::Absent | Slot::Null) {
                let name = &shape.properties[*column].name;
                let reason = format!("`{name}` is required where {}", self.describe(shape, slots, texts));
                return Err(Fault::new(rule::REQUIRED, reason).inside(name));
            }
        }
        for (column, kind) in &self.bounds {
            let checked = scalar::check_bounds(kind, value(*column), texts);
            checked.map_err(|fault| fault.inside(&shape.properties[*column].name))?;
        }
        Ok(())
    }

    /// The premise for a person: `` `event_type` is `gate.out` ``.
    #[cold]
    fn describe(&self, shape: &Shape, slots: &[Slot], texts: &Texts<'_>) -> String {
        let premises = self.when.iter().map(|(column, _)| {
            let name = &shape.properties[*column].name;
            match slots[*column] {
                Slot::Text(text) => format!("`{name}` is `{}`", shorten(texts.get(text))),
                Slot::Boolean(value) => format!("`{name}` is `{value}`"),
                Slot::Integer(value) => format!("`{name}` is `{value}`"),
                Slot::Absent => format!("`{name}` is left out"),
                _ => format!("`{name}` is as it is"),
            }
        });
        premises.collect::<Vec<_>>().join(" and ")
    }
}

/// A constant as the slot that the same value in an event becomes.
fn constant(kind: &Kind, value: &Value, texts: &mut String) -> Slot {
    let slot = match (kind, value) {
        (_, Value::Null) => Some(Slot::Null),
        (Kind::Text { .. }, Value::Text(text)) => Some(Slot::Text(intern(texts, text))),
        (Kind::Boolean, Value::Boolean(value)) => Some(Slot::Boolean(*value)),
        (Kind::Number { .. }, Value::Number(value)) => Some(Slot::Number(*value)),
        (Kind::Decimal { .. }, Value::Decimal(value)) => Some(Slot::Decimal(*value)),
        (Kind::Integer { .. } | Kind::Timestamp { .. } | Kind::Time, Value::Integer(value)) => {
            Some(Slot::Integer(*value))
        }
        (Kind::Date, Value::Integer(value)) => i32::try_from(*value).ok().map(Slot::Date),
        (kind, Value::Text(text)) => scalar::from_text(kind, text).ok(),
        (kind, Value::Integer(value)) => scalar::from_text(kind, &value.to_string()).ok(),
        _ => None,
    };
    slot.unwrap_or_else(|| panic!("constant {value:?} of a compiled contract is not of kind {kind:?}"))
}
