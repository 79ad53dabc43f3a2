//! The JSON Schema of a change stream's messages.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde_json::{Map, Value, json};

/// The JSON Schema 2020-12 of the messages that a job's change stream carries: the CloudEvents envelope, and in its
/// `data` a row of `schema`, or null where the row is gone. Every column is required (nulls are written out); columns
/// of `key` and those that can't be null are never null.
pub fn row_schema(job: &str, schema: &Schema, key: &[String]) -> Value {
    let types: Vec<String> =
        ["appeared", "changed", "revoked"].iter().map(|change| format!("milepost.{job}.{change}")).collect();
    let revoked = types.last().cloned();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("Changes of `{job}`"),
        "description": "CloudEvents 1.0 in structured JSON. Per subject, each revision follows the one that `predecessor` names; \
                        the last message of a subject is the row as it is.",
        "type": "object",
        "required": ["specversion", "id", "source", "type", "subject", "datacontenttype", "revision", "epoch", "data"],
        "properties": {
            "specversion": { "const": "1.0" },
            "id": { "type": "string", "description": "Pipeline, job, key and revision; the same for the same change, always." },
            "source": { "type": "string", "pattern": "^milepost/" },
            "type": { "enum": types },
            "subject": { "type": "string", "minLength": 1, "description": "The key; the values of several columns percent-encoded, joined by `/`." },
            "time": { "type": "string", "format": "date-time", "description": "The clock of the epoch that brought the change." },
            "datacontenttype": { "const": "application/json" },
            "revision": { "type": "integer", "minimum": 1 },
            "predecessor": { "type": "string", "description": "The id of the revision before; absent in the first." },
            "epoch": { "type": "string", "pattern": "^[0-9]+$" },
            "data": { "anyOf": [{ "$ref": "#/$defs/row" }, { "type": "null" }] }
        },
        "if": { "properties": { "type": { "const": revoked } } },
        "then": { "properties": { "data": { "type": "null" } } },
        "else": { "properties": { "data": { "$ref": "#/$defs/row" } } },
        "$defs": { "row": object(schema.fields().iter().map(AsRef::as_ref), |field| field.is_nullable() && !key.contains(field.name())) }
    })
}

fn object<'a>(fields: impl Iterator<Item = &'a Field>, nullable: impl Fn(&Field) -> bool) -> Value {
    let mut properties = Map::new();
    for field in fields {
        properties.insert(field.name().clone(), of_type(field.data_type(), nullable(field)));
    }
    let required: Vec<&String> = properties.keys().collect();
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

fn of_type(data_type: &DataType, nullable: bool) -> Value {
    let value = match data_type {
        DataType::Null => return json!({ "type": "null" }),
        DataType::Boolean => json!({ "type": "boolean" }),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            json!({ "type": "integer", "minimum": 0 })
        }
        integer if integer.is_integer() => json!({ "type": "integer" }),
        float if float.is_floating() => {
            json!({ "anyOf": [{ "type": "number" }, { "enum": ["NaN", "Infinity", "-Infinity"] }] })
        }
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
            decimal(*scale)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => moment(9, zone.is_some()),
        DataType::Timestamp(_, zone) => moment(6, zone.is_some()),
        DataType::Date32 | DataType::Date64 => json!({ "type": "string", "format": "date" }),
        DataType::Time32(_) | DataType::Time64(_) => {
            json!({ "type": "string", "pattern": "^[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]+$" })
        }
        DataType::Interval(_) | DataType::Duration(_) => json!({ "type": "string", "pattern": "^P" }),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            json!({ "type": "array", "items": of_type(item.data_type(), item.is_nullable()) })
        }
        DataType::Struct(fields) => object(fields.iter().map(AsRef::as_ref), Field::is_nullable),
        DataType::Dictionary(_, values) => return of_type(values, nullable),
        _ => json!({ "type": "string" }),
    };
    if nullable { or_null(value) } else { value }
}

fn decimal(scale: i8) -> Value {
    let fraction = if scale > 0 { format!("\\.[0-9]{{{scale}}}") } else { String::new() };
    json!({ "type": "string", "pattern": format!("^-?[0-9]+{fraction}$") })
}

fn moment(digits: u8, zoned: bool) -> Value {
    let zone = if zoned { "Z" } else { "" };
    let pattern =
        format!("^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}\\.[0-9]{{{digits}}}{zone}$");
    if zoned {
        json!({ "type": "string", "format": "date-time", "pattern": pattern })
    } else {
        json!({ "type": "string", "pattern": pattern })
    }
}

/// The same schema, null allowed: in `type` where that says it all.
fn or_null(mut value: Value) -> Value {
    match value.get("type").and_then(Value::as_str).map(str::to_owned) {
        Some(name) => {
            value["type"] = json!([name, "null"]);
            value
        }
        None => json!({ "anyOf": [value, { "type": "null" }] }),
    }
}
