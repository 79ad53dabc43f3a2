//! One property of a contract: its type and format, and the keywords that go with them.

use super::compile::Compiler;
use super::{Column, Kind};
use crate::definition::tree::{Content, Entry, Node, shorten};
use crate::diagnostic::suggest;

/// Keywords of a property, of which each kind of value has its own.
const KEYWORDS: [&str; 18] = [
    "type",
    "format",
    "enum",
    "const",
    "default",
    "minimum",
    "maximum",
    "maxLength",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "x-decimal",
    "x-minimum",
    "x-maximum",
    "x-nanoseconds",
    "title",
    "description",
];

const TYPES: [&str; 6] = ["string", "boolean", "integer", "number", "object", "array"];
const FORMATS: [&str; 4] = ["date-time", "date", "time", "duration"];

/// The digits of the widest decimal.
const PRECISION_MAX: u64 = 38;

impl Compiler<'_> {
    /// The columns of `properties`; those in `required` must be there.
    pub(super) fn columns(&mut self, properties: &Node, required: Option<&Node>) -> Vec<Column> {
        let help = "write `\"name\": {\"type\": \"string\"}` for each property";
        let Some(entries) = self.report.map(properties, "`properties`", help) else { return Vec::new() };
        if entries.is_empty() {
            self.report.problem(&properties.span, "`properties` is empty", "name at least one property");
        }
        let names: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let required = required.map(|node| self.required(node, &names)).unwrap_or_default();
        entries.iter().filter_map(|entry| self.column(entry, required.contains(&entry.key))).collect()
    }

    /// The names in `required`, each one of `names`.
    pub(super) fn required(&mut self, node: &Node, names: &[&str]) -> Vec<String> {
        let mut required: Vec<String> = Vec::new();
        for item in self.report.list(node, "`required`", "write `[\"name\"]`").unwrap_or_default() {
            let Some(word) = self.report.word(item, "an entry of `required`") else { continue };
            let name = word.value.value;
            if !names.contains(&name.as_str()) {
                let message = format!("`{}` is required but not among `properties`", shorten(&name));
                self.report.problem(&item.span, message, suggest(&name, names.iter().copied()));
            } else if required.contains(&name) {
                self.report.problem(&item.span, format!("`{name}` is required twice"), "keep one of the two");
            } else {
                required.push(name);
            }
        }
        required
    }

    fn column(&mut self, entry: &Entry, required: bool) -> Option<Column> {
        let node = &entry.node;
        if entry.key.is_empty() || entry.key.contains(char::is_control) {
            self.report.problem(&entry.key_span, "a property needs a name", "the name becomes the column's in SQL");
        }
        let (kind, nullable) = self.kind(node, &entry.key_span)?;
        let allowed = if kind.has_constants() { self.allowed(node, &kind, nullable) } else { None };
        let default = match node.get("default").filter(|_| kind.has_constants()) {
            Some(default) => {
                if required {
                    let message = format!("`{}` is required, so its default is never used", entry.key);
                    self.report.problem(&default.span, message, "leave out `default`, or take it out of `required`");
                }
                let value = self.constant(default, "`default`", &kind, nullable);
                if let (Some(value), Some(allowed)) = (&value, &allowed)
                    && !allowed.contains(value)
                {
                    let message = format!(
                        "`default` is {}, which is not one of the allowed values",
                        default.found(self.report.syntax)
                    );
                    self.report.problem(&default.span, message, "use a value of `enum`, or add it there");
                }
                value
            }
            None => None,
        };
        let description = self.prose(node, "description").or_else(|| self.prose(node, "title"));
        Some(Column { name: entry.key.clone(), kind, required, nullable, default, allowed, description })
    }

    /// What values a property or the element of an array may have, and whether null is one. What is missing is reported
    /// at `place`.
    fn kind(&mut self, node: &Node, place: &std::ops::Range<usize>) -> Option<(Kind, bool)> {
        let entries = self.report.map(node, "a property", "write `{\"type\": \"string\"}` or the like")?;
        self.report.unknown_fields(entries, "a property has no keyword", &KEYWORDS, &[]);
        let Some(types) = node.get("type") else {
            let help = format!("add `\"type\"`, one of `{}`", TYPES.join("`, `"));
            self.report.problem(place, "the property has no `type`", help);
            return None;
        };
        let (type_name, nullable) = self.type_name(types)?;
        let kind = match type_name {
            "boolean" => Kind::Boolean,
            "integer" => Kind::Integer { minimum: None, maximum: None },
            "number" if node.get("x-decimal").is_some() => self.decimal(node)?,
            "number" => Kind::Number { minimum: None, maximum: None },
            "object" => self.object(node, place),
            "array" => self.array(node, place)?,
            _ if node.get("x-decimal").is_some() => self.decimal(node)?,
            _ => self.text(node)?,
        };
        self.applicable(entries, &kind);
        Some((self.bounded(kind, node), nullable))
    }

    /// `"T"` or `["T", "null"]`.
    fn type_name(&mut self, node: &Node) -> Option<(&'static str, bool)> {
        let help = "write one type, or `[\"string\", \"null\"]` where null is allowed";
        let names = match &node.content {
            Content::List(items) => items.iter().collect(),
            _ => vec![node],
        };
        let is_null = |node: &Node| matches!(&node.content, Content::Text(text) if text.value == "null");
        let others: Vec<&Node> = names.iter().copied().filter(|name| !is_null(name)).collect();
        let [only] = others.as_slice() else {
            self.report.problem(&node.span, "`type` must name exactly one type beside null", help);
            return None;
        };
        if names.len() > 2 {
            self.report.problem(&node.span, "`type` names null twice", help);
        }
        let index = self.report.choice(only, "`type`", &TYPES)?;
        TYPES.get(index).map(|name| (*name, names.len() > 1))
    }

    fn text(&mut self, node: &Node) -> Option<Kind> {
        let Some(format) = node.get("format") else { return Some(Kind::Text { max_length: None }) };
        let kind = match self.report.choice(format, "`format`", &FORMATS)? {
            0 => {
                let nanoseconds = node.get("x-nanoseconds").is_some_and(|node| self.flag(node, "`x-nanoseconds`"));
                Kind::Timestamp { minimum: None, maximum: None, nanoseconds }
            }
            1 => Kind::Date,
            2 => Kind::Time,
            _ => Kind::Duration,
        };
        Some(kind)
    }

    fn flag(&mut self, node: &Node, what: &str) -> bool {
        match node.content {
            Content::Boolean(value) => value,
            _ => {
                self.report.mismatch(node, what, "true or false", "write `true`, or leave it out");
                false
            }
        }
    }

    fn decimal(&mut self, node: &Node) -> Option<Kind> {
        let node = node.get("x-decimal")?;
        let help = "write `{\"precision\": 18, \"scale\": 3}`: digits in all, and digits behind the point";
        let entries = self.report.map(node, "`x-decimal`", help)?;
        self.report.unknown_fields(entries, "`x-decimal` has no field", &["precision", "scale"], &[]);
        let (Some(precision), Some(scale)) = (node.get("precision"), node.get("scale")) else {
            self.report.problem(&node.span, "`x-decimal` needs `precision` and `scale`", help);
            return None;
        };
        let precision = self.report.integer(precision, "`precision`", 1, PRECISION_MAX)?;
        let scale = self.report.integer(scale, "`scale`", 0, precision)?;
        let (precision, scale) = (u8::try_from(precision).ok()?, i8::try_from(scale).ok()?);
        Some(Kind::Decimal { precision, scale, minimum: None, maximum: None })
    }

    fn object(&mut self, node: &Node, place: &std::ops::Range<usize>) -> Kind {
        if let Some(given) = node.get("additionalProperties")
            && let Some(additional) = self.additional(given)
            && additional != self.additional
        {
            let message = "`additionalProperties` of an object must be as that of the contract";
            self.report.problem(&given.span, message, format!("write `{}`, or leave it out", self.additional));
        }
        match node.get("properties") {
            Some(properties) => Kind::Object(self.columns(properties, node.get("required"))),
            None => {
                self.report.problem(place, "an object needs `properties`", "name each of its properties with its type");
                Kind::Object(Vec::new())
            }
        }
    }

    fn array(&mut self, node: &Node, place: &std::ops::Range<usize>) -> Option<Kind> {
        let Some(items) = node.get("items") else {
            self.report.problem(
                place,
                "an array needs `items`",
                "write `\"items\": {\"type\": \"string\"}` or the like",
            );
            return None;
        };
        for keyword in ["enum", "const", "default"] {
            if let Some(given) = items.get(keyword) {
                let help = "the elements of an array have a type and bounds only";
                self.report.problem(&given.span, format!("`{keyword}` is not supported in `items`"), help);
            }
        }
        let (element, nullable) = self.kind(items, &items.span)?;
        Some(Kind::Array { element: Box::new(element), nullable })
    }

    /// Reports keywords that say nothing about values of this kind.
    fn applicable(&mut self, entries: &[Entry], kind: &Kind) {
        let always = ["type", "title", "description"];
        let own: &[&str] = match kind {
            Kind::Text { .. } => &["maxLength", "enum", "const", "default"],
            Kind::Boolean => &["enum", "const", "default"],
            Kind::Integer { .. } | Kind::Number { .. } => &["minimum", "maximum", "enum", "const", "default"],
            Kind::Decimal { .. } => &["x-decimal", "minimum", "maximum", "enum", "const", "default"],
            Kind::Timestamp { .. } => &["format", "x-minimum", "x-maximum", "x-nanoseconds"],
            Kind::Date | Kind::Time | Kind::Duration => &["format"],
            Kind::Object(_) => &["properties", "required", "additionalProperties"],
            Kind::Array { .. } => &["items"],
        };
        for entry in entries {
            let key = entry.key.as_str();
            if KEYWORDS.contains(&key) && !always.contains(&key) && !own.contains(&key) {
                let message = format!("`{key}` does not apply to {}", kind.describe());
                let help = format!("keywords of {} are `{}`", kind.describe(), own.join("`, `"));
                self.report.problem(&entry.key_span, message, help);
            }
        }
    }
}
