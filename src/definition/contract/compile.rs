//! From a contract's JSON text to a [`Contract`]: every keyword is understood or refused, all problems in one run.

use std::sync::Arc;

use super::{Contract, SYSTEM_COLUMNS};
use crate::definition::json;
use crate::definition::read::Report;
use crate::definition::tree::{Content, Entry, Node, Syntax, shorten};
use crate::diagnostic::{Diagnostics, SourceText};

/// The dialect that contracts are a subset of.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Keywords of a contract itself.
const KEYWORDS: [&str; 9] =
    ["$schema", "$id", "title", "description", "type", "properties", "required", "additionalProperties", "allOf"];

impl Contract {
    /// Compiles the text of a contract. An `Err` holds every problem, each with its place in `text`.
    pub fn compile(text: &Arc<SourceText>) -> Result<Self, Diagnostics> {
        let mut problems = Diagnostics::default();
        let root = json::parse(text, &mut problems);
        let contract = root.and_then(|root| {
            let report = Report { file: text, problems: &mut problems, syntax: Syntax::Json };
            Compiler { report, additional: true }.contract(&root)
        });
        problems.into_result(contract)
    }
}

/// Reads the parts of one contract.
pub(super) struct Compiler<'a> {
    pub(super) report: Report<'a>,
    /// Whether the contract accepts properties that it does not name.
    pub(super) additional: bool,
}

impl Compiler<'_> {
    fn contract(&mut self, root: &Node) -> Option<Contract> {
        let help = "a contract is a JSON Schema of `\"type\": \"object\"` with `properties`";
        let entries = self.report.map(root, "a contract", help)?;
        self.report.unknown_fields(entries, "a contract has no keyword", &KEYWORDS, &[]);
        self.dialect(root);
        self.object_type(root);
        self.additional = root.get("additionalProperties").and_then(|node| self.additional(node)).unwrap_or(true);
        let columns = match root.get("properties") {
            Some(properties) => self.columns(properties, root.get("required")),
            None => {
                self.report.problem(
                    &(0..0),
                    "a contract needs the keyword `properties`",
                    "name each property with its type",
                );
                Vec::new()
            }
        };
        for (entry, name) in property_names(root).filter(|(_, name)| SYSTEM_COLUMNS.contains(name)) {
            let message = format!("`{name}` is a column that every source table has already");
            self.report.problem(&entry.key_span, message, "choose another name");
        }
        let conditions = root.get("allOf").map(|node| self.conditions(node, &columns)).unwrap_or_default();
        let id = root.get("$id").and_then(|node| self.report.word(node, "`$id`")).map(|id| id.value.value);
        let name = self.report.file.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let prose = [self.prose(root, "title"), self.prose(root, "description")];
        let prose: Vec<String> = prose.into_iter().flatten().collect();
        Some(Contract {
            id: id.or(name).unwrap_or_default(),
            description: (!prose.is_empty()).then(|| prose.join(": ")),
            columns,
            conditions,
            additional: self.additional,
        })
    }

    fn dialect(&mut self, root: &Node) {
        let Some(word) = root.get("$schema").and_then(|node| self.report.word(node, "`$schema`")) else { return };
        if word.value.value.trim_end_matches('#') != DIALECT {
            let message = format!("`{}` is not the dialect of contracts", shorten(&word.value.value));
            self.report.problem(&word.span, message, format!("write `{DIALECT}`"));
        }
    }

    fn object_type(&mut self, root: &Node) {
        match root.get("type") {
            Some(Node { content: Content::Text(text), .. }) if text.value == "object" => {}
            Some(node) => {
                self.report.mismatch(node, "the `type` of a contract", "`object`", "an event is a JSON object")
            }
            None => {
                self.report.problem(&(0..0), "a contract needs `\"type\": \"object\"`", "an event is a JSON object")
            }
        }
    }

    /// The value of `additionalProperties`.
    pub(super) fn additional(&mut self, node: &Node) -> Option<bool> {
        match node.content {
            Content::Boolean(value) => Some(value),
            _ => {
                let help = "false rejects events with properties that the contract does not name, true ignores them";
                self.report.mismatch(node, "`additionalProperties`", "true or false", help);
                None
            }
        }
    }

    /// The text of `title` or `description`.
    pub(super) fn prose(&mut self, node: &Node, keyword: &str) -> Option<String> {
        let word = self.report.word(node.get(keyword)?, &format!("`{keyword}`"))?;
        Some(word.value.value)
    }
}

fn property_names(root: &Node) -> impl Iterator<Item = (&Entry, &str)> {
    let entries = match root.get("properties").map(|node| &node.content) {
        Some(Content::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(|entry| (entry, entry.key.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::{Condition, Kind, Value};
    use super::*;

    #[test]
    fn each_keyword_ends_in_its_part_of_the_contract() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/definitions/contracts/");
        let text = std::fs::read_to_string(format!("{folder}event.v1.json")).expect("the contract is there");
        let contract = Contract::compile(&SourceText::new("event.v1.json", text)).expect("the contract is right");
        assert_eq!(contract.id, "event.v1");
        assert_eq!(contract.description.as_deref(), Some("Event: One event."));
        assert!(!contract.additional);
        let column = |name: &str| contract.columns.iter().find(|column| column.name == name).expect("a column");
        let classifier = column("classifier");
        assert_eq!(classifier.default, Some(Value::Text("ACT".to_owned())));
        assert_eq!(classifier.allowed.as_ref().map(Vec::len), Some(2));
        assert!(!classifier.field().is_nullable() && !classifier.required);
        assert!(column("event_id").required && column("site").nullable);
        let year_2000 = 946_684_800_000_000;
        let bounded = Kind::Timestamp { minimum: Some(year_2000), maximum: None, nanoseconds: false };
        assert_eq!(column("occurred_at").kind, bounded);
        let open = Kind::Timestamp { minimum: None, maximum: None, nanoseconds: true };
        assert_eq!(column("recorded_at").kind, open);
        assert_eq!(column("weight").kind, Kind::Number { minimum: Some(0.5), maximum: None });
        let quantity = Kind::Decimal { precision: 18, scale: 3, minimum: Some(0), maximum: Some(1_000_500) };
        let condition = Condition {
            when: vec![(1, vec![Value::Text("gate.out".to_owned())])],
            required: vec![5],
            bounds: vec![(6, quantity)],
        };
        assert_eq!(contract.conditions.first(), Some(&condition));
    }
}
