//! `allOf`: `if` some columns have given values, `then` others are required or bounded. Only forms are accepted of which
//! every JSON Schema validator and Milepost say the same, also where a property is absent or has a default.

use super::compile::Compiler;
use super::{Column, Condition, Kind, Value};
use crate::definition::tree::{Content, Entry, Node, shorten};
use crate::diagnostic::suggest;

/// Columns that `then` requires, and columns with the bounds that hold then.
type Consequence = (Vec<usize>, Vec<(usize, Kind)>);

const BOUNDS: [&str; 5] = ["minimum", "maximum", "maxLength", "x-minimum", "x-maximum"];

impl Compiler<'_> {
    /// The entries of `allOf`.
    pub(super) fn conditions(&mut self, node: &Node, columns: &[Column]) -> Vec<Condition> {
        let help = "write `[{\"if\": {…}, \"then\": {…}}]`";
        let items = self.report.list(node, "`allOf`", help).unwrap_or_default();
        items.iter().filter_map(|item| self.condition(item, columns)).collect()
    }

    fn condition(&mut self, node: &Node, columns: &[Column]) -> Option<Condition> {
        let help = "write `{\"if\": {\"properties\": {…}, \"required\": […]}, \"then\": {…}}`";
        let entries = self.report.map(node, "an entry of `allOf`", help)?;
        let known = ["if", "then", "title", "description"];
        self.report.unknown_fields(entries, "an entry of `allOf` has no keyword", &known, &[]);
        let (Some(when), Some(then)) = (node.get("if"), node.get("then")) else {
            self.report.problem(&node.span, "an entry of `allOf` needs `if` and `then`", help);
            return None;
        };
        let when = self.when(when, columns);
        let (required, bounds) = self.then(then, columns)?;
        Some(Condition { when: when?, required, bounds })
    }

    fn when(&mut self, node: &Node, columns: &[Column]) -> Option<Vec<(usize, Vec<Value>)>> {
        let help = "write `{\"properties\": {\"column\": {\"const\": \"value\"}}, \"required\": [\"column\"]}`";
        let entries = self.report.map(node, "`if`", help)?;
        self.report.unknown_fields(entries, "`if` has no keyword", &["properties", "required"], &[]);
        let Some(properties) = node.get("properties") else {
            self.report.problem(&node.span, "`if` needs `properties`", help);
            return None;
        };
        let tested = self.report.map(properties, "`properties` of `if`", help)?;
        if tested.is_empty() {
            self.report.problem(&properties.span, "`if` tests no property", help);
        }
        let names: Vec<&str> = tested.iter().map(|entry| entry.key.as_str()).collect();
        let present = node.get("required").map(|node| self.required(node, &names)).unwrap_or_default();
        tested.iter().map(|entry| self.test(entry, columns, present.contains(&entry.key))).collect()
    }

    /// One column of `if` with the values of which it must have one.
    fn test(&mut self, entry: &Entry, columns: &[Column], present: bool) -> Option<(usize, Vec<Value>)> {
        let (index, column) = self.named(entry, columns)?;
        let help = "write `{\"const\": \"value\"}` or `{\"enum\": [\"a\", \"b\"]}`";
        let entries = self.report.map(&entry.node, "a property of `if`", help)?;
        self.report.unknown_fields(entries, "a property of `if` has no keyword", &["const", "enum"], &[]);
        let Some(values) = self.allowed(&entry.node, &column.kind, false) else {
            if entries.is_empty() {
                self.report.problem(&entry.node.span, "a property of `if` needs `const` or `enum`", help);
            }
            return None;
        };
        if let Some(allowed) = &column.allowed
            && let Some(never) = values.iter().find(|value| !allowed.contains(value))
        {
            let message = format!("`{}` is never {}", column.name, shown(never));
            self.report.problem(&entry.node.span, message, "the contract's own `enum` does not allow that value");
        }
        self.absence(entry, column, &values, present);
        Some((index, values))
    }

    /// In JSON Schema an absent property satisfies `if`, and defaults don't count: the two must come to the same.
    fn absence(&mut self, entry: &Entry, column: &Column, values: &[Value], present: bool) {
        let name = &column.name;
        let holds_when_absent = column.default.as_ref().is_some_and(|default| values.contains(default));
        if column.required || present != holds_when_absent {
            return;
        }
        let message = match present {
            true => {
                format!("an absent `{name}` is its default, one of these values, but `required` of `if` excludes it")
            }
            false => format!("an absent `{name}` would satisfy this `if`"),
        };
        let help = match present {
            true => format!("take `{name}` out of `required` of `if`"),
            false => format!("add `\"required\": [\"{name}\"]` to `if`"),
        };
        self.report.problem(&entry.key_span, message, help);
    }

    fn then(&mut self, node: &Node, columns: &[Column]) -> Option<Consequence> {
        let help = "write `{\"required\": [\"column\"]}` or `{\"properties\": {\"column\": {\"minimum\": 0}}}`";
        let entries = self.report.map(node, "`then`", help)?;
        self.report.unknown_fields(entries, "`then` has no keyword", &["required", "properties"], &[]);
        if node.get("required").is_none() && node.get("properties").is_none() {
            self.report.problem(&node.span, "`then` asks for nothing", help);
        }
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let required = node.get("required").map(|node| self.required(node, &names)).unwrap_or_default();
        let required = required.iter().filter_map(|name| names.iter().position(|other| other == name)).collect();
        let properties = node.get("properties").and_then(|node| self.report.map(node, "`properties` of `then`", help));
        let bounds = properties.unwrap_or_default().iter().filter_map(|entry| self.bound(entry, columns)).collect();
        Some((required, bounds))
    }

    /// One column of `then` with the bounds that hold then.
    fn bound(&mut self, entry: &Entry, columns: &[Column]) -> Option<(usize, Kind)> {
        let (index, column) = self.named(entry, columns)?;
        let entries = self.report.map(&entry.node, "a property of `then`", "write bounds, as in `{\"minimum\": 0}`")?;
        let own: &[&str] = match column.kind {
            Kind::Text { .. } => &BOUNDS[2..3],
            Kind::Integer { .. } | Kind::Number { .. } | Kind::Decimal { .. } => &BOUNDS[..2],
            Kind::Timestamp { .. } => &BOUNDS[3..],
            _ => &[],
        };
        for entry in entries.iter().filter(|entry| !own.contains(&entry.key.as_str())) {
            let key = shorten(&entry.key);
            let message = match BOUNDS.contains(&key.as_str()) {
                true => format!("`{key}` does not apply to {}", column.kind.describe()),
                false => format!("a property of `then` has no keyword `{key}`"),
            };
            let help = match own {
                [] => format!("{} has no bounds; it can be required", column.kind.describe()),
                own => suggest(&key, own.iter().copied()),
            };
            self.report.problem(&entry.key_span, message, help);
        }
        if matches!(&entry.node.content, Content::Map(entries) if entries.is_empty()) {
            self.report.problem(&entry.node.span, "a property of `then` has no bounds", "write them, or leave it out");
        }
        Some((index, self.bounded(column.kind.clone(), &entry.node)))
    }

    fn named<'c>(&mut self, entry: &Entry, columns: &'c [Column]) -> Option<(usize, &'c Column)> {
        let found = columns.iter().enumerate().find(|(_, column)| column.name == entry.key);
        if found.is_none() {
            let message = format!("the contract has no property `{}`", shorten(&entry.key));
            let help = suggest(&entry.key, columns.iter().map(|column| column.name.as_str()));
            self.report.problem(&entry.key_span, message, help);
        }
        found
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("`{}`", shorten(text)),
        Value::Boolean(value) => format!("`{value}`"),
        Value::Integer(value) => format!("`{value}`"),
        Value::Number(value) => format!("`{value}`"),
        Value::Decimal(_) => "that value".to_owned(),
        Value::Null => "null".to_owned(),
    }
}
