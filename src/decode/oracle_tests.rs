//! The decoder against the `jsonschema` crate: over what both understand they accept the same documents.
//!
//! Known differences, kept out of the documents made here: duplicate keys (JSON Schema sees the last), decimals and
//! formats (JSON Schema knows no scale; leap seconds), and defaults in conditions (to JSON Schema an annotation).

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Map, Value as Json, json};

use super::tests::{column, integer, message, text};
use super::*;
use crate::definition::contract::{Column, Condition, Kind, Value};

/// A contract as the JSON Schema that it would be compiled from.
fn schema_of(contract: &Contract) -> Json {
    let name = |at: &usize| contract.columns[*at].name.clone();
    let conditions = contract.conditions.iter().map(|condition| {
        let when = condition
            .when
            .iter()
            .map(|(at, values)| (name(at), json!({ "enum": values.iter().map(constant).collect::<Vec<_>>() })));
        let present: Vec<_> = condition.when.iter().map(|(at, _)| name(at)).collect();
        let bounds = condition.bounds.iter().map(|(at, kind)| (name(at), bounds_of(kind)));
        json!({
            "if": { "properties": when.collect::<Map<_, _>>(), "required": present },
            "then": {
                "properties": bounds.collect::<Map<_, _>>(),
                "required": condition.required.iter().map(name).collect::<Vec<_>>(),
            },
        })
    });
    let conditions: Vec<_> = conditions.collect();
    let mut schema = object_schema(&contract.columns, contract.additional);
    if !conditions.is_empty() {
        schema["allOf"] = json!(conditions);
    }
    schema
}

fn object_schema(columns: &[Column], additional: bool) -> Json {
    let properties: Map<_, _> =
        columns.iter().map(|column| (column.name.clone(), column_schema(column, additional))).collect();
    let required: Vec<_> = columns.iter().filter(|column| column.required).map(|column| &column.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": additional })
}

fn column_schema(column: &Column, additional: bool) -> Json {
    let mut schema = kind_schema(&column.kind, column.nullable, additional);
    if let Some(allowed) = &column.allowed {
        schema["enum"] = allowed.iter().map(constant).collect();
    }
    schema
}

fn kind_schema(kind: &Kind, nullable: bool, additional: bool) -> Json {
    let mut schema = match kind {
        Kind::Object(columns) => object_schema(columns, additional),
        Kind::Array { element, nullable } => {
            json!({ "type": "array", "items": kind_schema(element, *nullable, additional) })
        }
        scalar => bounds_of(scalar),
    };
    if nullable {
        schema["type"] = json!([schema["type"], "null"]);
    }
    schema
}

fn bounds_of(kind: &Kind) -> Json {
    let mut schema = match kind {
        Kind::Text { max_length } => json!({ "type": "string", "maxLength": max_length }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer { minimum, maximum } => json!({ "type": "integer", "minimum": minimum, "maximum": maximum }),
        Kind::Number { minimum, maximum } => json!({ "type": "number", "minimum": minimum, "maximum": maximum }),
        Kind::Date => json!({ "type": "string", "format": "date" }),
        other => panic!("{other:?} is not in the common subset"),
    };
    schema.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    schema
}

fn constant(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!(text),
        Value::Integer(value) => json!(value),
        Value::Null => Json::Null,
        other => panic!("{other:?} is not in the common subset"),
    }
}

fn contract(additional: bool) -> Contract {
    let kinds = || vec![Value::Text("A".into()), Value::Text("B".into()), Value::Null];
    let inner = vec![
        Column { required: true, ..column("a", Kind::Text { max_length: Some(3) }) },
        Column { nullable: true, ..column("b", integer(Some(0), None)) },
    ];
    let columns = vec![
        Column { required: true, ..column("a", Kind::Text { max_length: Some(3) }) },
        Column { required: true, nullable: true, allowed: Some(kinds()), ..column("b", text()) },
        column("c", integer(Some(-3), Some(300))),
        Column { nullable: true, ..column("d", Kind::Number { minimum: Some(-2.5), maximum: Some(1e6) }) },
        column("e", Kind::Boolean),
        column("f", Kind::Object(inner)),
        column("g", Kind::Array { element: Box::new(integer(None, Some(5))), nullable: true }),
        column("h", Kind::Date),
        Column { allowed: Some(vec![Value::Integer(1), Value::Integer(2)]), ..column("i", integer(None, None)) },
    ];
    let conditions = vec![
        Condition { when: vec![(1, vec![Value::Text("A".into())])], required: vec![2], bounds: Vec::new() },
        Condition {
            when: vec![(1, vec![Value::Text("B".into()), Value::Null])],
            required: Vec::new(),
            bounds: vec![(2, integer(Some(1), None)), (0, Kind::Text { max_length: Some(1) })],
        },
    ];
    Contract { id: "oracle.v1".into(), description: None, columns, conditions, additional }
}

/// JSON text of a value that is often, but not always, what some column asks for.
fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        4 => prop::sample::select(vec![
            "null", "true", "false", "\"A\"", "\"B\"", "\"\"", "\"äöü\"", "\"äöüß\"", "\"\\u0041\"", "\"\\ud83d\\ude9a\"",
            "\"2024-02-29\"", "\"2023-02-29\"", "0", "1", "2", "1.0", "2.0e0", "10e-1", "1.5", "-3", "-4", "300", "301", "3e2",
            "-2.5", "-2.6", "1e6", "1000001", "-0", "0.0", "5", "6", "{}", "[]",
        ]).prop_map(str::to_owned),
        1 => (-1000_i64..1000).prop_map(|value| value.to_string()),
        1 => (-1e7..1e7).prop_map(|value: f64| value.to_string()),
    ];
    scalar.prop_recursive(2, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            properties(inner),
        ]
    })
}

/// An object with each of some names at most once, in any order.
fn properties(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let names = prop::sample::subsequence(vec!["a", "b", "c", "d", "e", "f", "g", "h", "i", "x"], 1..8).prop_shuffle();
    (names, prop::collection::vec(value, 8)).prop_map(|(names, values)| {
        let items: Vec<_> = names.iter().zip(&values).map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", items.join(","))
    })
}

/// An object that has what is required, so that other rules get their turn.
fn likely() -> impl Strategy<Value = String> {
    let names = prop::sample::subsequence(vec!["c", "d", "e", "f", "g", "h", "i", "x"], 0..4).prop_shuffle();
    let b = prop::sample::select(vec!["\"A\"", "\"B\"", "null"]);
    let fitting = |name: &str| match name {
        "c" => prop::sample::select(vec!["1", "300", "-3", "2e0", "0"]),
        "d" => prop::sample::select(vec!["1.5", "null", "-2.5", "1e6"]),
        "e" => prop::sample::select(vec!["true", "false"]),
        "f" => prop::sample::select(vec![
            "{\"a\":\"x\"}",
            "{\"b\":null,\"a\":\"äöü\"}",
            "{\"a\":\"x\",\"b\":3,\"z\":[]}",
            "{}",
        ]),
        "g" => prop::sample::select(vec!["[]", "[1,null,5]", "[6]", "[1.0]"]),
        "h" => prop::sample::select(vec!["\"2024-02-29\"", "\"1999-12-31\""]),
        "i" => prop::sample::select(vec!["1", "2.0", "3"]),
        _ => prop::sample::select(vec!["{\"y\":[{}]}", "1e2"]),
    };
    (names, b).prop_flat_map(move |(names, b)| {
        let values: Vec<_> =
            names.iter().map(|name| prop_oneof![6 => fitting(name).prop_map(str::to_owned), 1 => value()]).collect();
        values.prop_map(move |values| {
            let items: Vec<_> = names.iter().zip(&values).map(|(name, value)| format!(",\"{name}\":{value}")).collect();
            format!("{{\"a\":\"x\",\"b\":{b}{}}}", items.concat())
        })
    })
}

fn accepts(contract: &Contract, document: &str) -> Result<(), Rejection> {
    let mut decoder = Decoder::new(Arc::new(contract.clone()), Format::Json);
    let mut rejections = Vec::new();
    decoder.decode(&message(document.to_owned()), &mut rejections);
    rejections.pop().map_or(Ok(()), Err)
}

fn agree(contract: &Contract, document: &str) -> Result<bool, TestCaseError> {
    let validator = jsonschema::options().should_validate_formats(true).build(&schema_of(contract)).unwrap();
    let expected = validator.is_valid(&serde_json::from_str(document).unwrap());
    let decoded = accepts(contract, document);
    prop_assert_eq!(decoded.is_ok(), expected, "{} gives {:?}", document, decoded);
    Ok(expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn document_is_accepted_exactly_when_json_schema_accepts_it(document in prop_oneof![likely(), properties(value())]) {
        agree(&contract(true), &document)?;
        agree(&contract(false), &document)?;
    }
}

#[test]
fn oracle_sees_both_accepted_and_refused_documents() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut accepted = 0;
    for _ in 0..200 {
        let document = likely().new_tree(&mut runner).unwrap().current();
        accepted += usize::from(agree(&contract(true), &document).unwrap());
    }
    assert!((40..160).contains(&accepted), "{accepted} of 200");
}
