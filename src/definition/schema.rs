//! `milepost schema`: the JSON Schema of the pipeline file, made from the tables that the reader follows. It is about
//! structure; that a column exists or two subjects don't overlap only `check` can say.

use serde_json::{Map, Value, json};

use super::grammar::{Field, Form, Need, PIPELINE, Shape};

/// A text in which a variable stands is accepted wherever a value is, because its value comes from the environment.
const VARIABLE: &str = r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}";

/// The JSON Schema 2020-12 of a pipeline file, for editors and other tools.
pub fn pipeline_json_schema() -> Value {
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("Milepost pipeline"));
    if let Value::Object(shape) = self::shape(&PIPELINE) {
        schema.extend(shape);
    }
    Value::Object(schema)
}

fn shape(shape: &Shape) -> Value {
    let properties: Map<String, Value> =
        shape.fields.iter().map(|field| (field.name.to_owned(), described(field))).collect();
    let required: Vec<&str> = names(shape, Need::Required);
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    let Value::Object(map) = &mut schema else { return schema };
    if !required.is_empty() {
        map.insert("required".to_owned(), json!(required));
    }
    let one_of = names(shape, Need::OneOf);
    if !one_of.is_empty() {
        let alternatives: Vec<Value> = one_of.iter().map(|name| json!({ "required": [name] })).collect();
        map.insert("oneOf".to_owned(), json!(alternatives));
    }
    let at_most_one = names(shape, Need::AtMostOne);
    let pairs = at_most_one
        .iter()
        .enumerate()
        .flat_map(|(at, one)| at_most_one[at + 1..].iter().map(move |other| [one, other]));
    let pairs: Vec<Value> = pairs.map(|pair| json!({ "required": pair })).collect();
    match pairs.as_slice() {
        [] => {}
        [pair] => drop(map.insert("not".to_owned(), pair.clone())),
        pairs => drop(map.insert("not".to_owned(), json!({ "anyOf": pairs }))),
    }
    schema
}

fn names(shape: &Shape, need: Need) -> Vec<&'static str> {
    shape.fields.iter().filter(|field| field.need == need).map(|field| field.name).collect()
}

fn described(field: &Field) -> Value {
    let mut schema = form(&field.form);
    if let Value::Object(map) = &mut schema {
        map.insert("description".to_owned(), json!(field.about));
    }
    schema
}

fn form(form: &Form) -> Value {
    match form {
        Form::Text => json!({ "type": "string", "pattern": r"\S" }),
        Form::PipelineName => json!({ "type": "string", "pattern": either("[A-Za-z_][A-Za-z0-9_-]{0,63}") }),
        Form::Duration => json!({ "type": "string", "pattern": either("[0-9]+ *(ms|s|m|h|d)") }),
        Form::Share => json!({ "type": "string", "pattern": either(r"(100|[0-9]{1,2}(\.[0-9]{1,4})?) *%") }),
        Form::Integer(minimum, maximum) => {
            let mut number = json!({ "type": "integer", "minimum": minimum });
            if let (Value::Object(map), false) = (&mut number, *maximum == u64::MAX) {
                map.insert("maximum".to_owned(), json!(maximum));
            }
            json!({ "anyOf": [number, variable()] })
        }
        Form::Boolean => json!({ "type": "boolean" }),
        Form::Choice(words) => json!({ "anyOf": [{ "enum": words }, variable()] }),
        Form::Texts => {
            json!({ "type": "array", "items": { "type": "string", "pattern": r"\S" }, "minItems": 1, "uniqueItems": true })
        }
        Form::One(shape) => self::shape(shape),
        Form::Named(shape) => json!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$" },
            "additionalProperties": self::shape(shape),
        }),
        Form::Many(shape) => json!({ "type": "array", "items": self::shape(shape) }),
        Form::Either(short, long) => json!({ "anyOf": [self::form(short), self::form(long)] }),
    }
}

fn variable() -> Value {
    json!({ "type": "string", "pattern": VARIABLE })
}

fn either(pattern: &str) -> String {
    format!("^{pattern}$|{VARIABLE}")
}
