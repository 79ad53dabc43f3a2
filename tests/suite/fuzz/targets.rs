//! What a fuzzer calls: any bytes in, and nothing may panic, overflow the stack, or break what the module promises.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use milepost::decode::{Decoder, Format};
use milepost::definition::contract::Contract;
use milepost::definition::pipeline::Pipeline;
use milepost::definition::{Unreadable, compile};
use milepost::diagnostic::{Diagnostics, SourceText};
use milepost::runtime::engine::build_circuit;
use milepost::types::RawMessage;

/// A contract with a column of every kind.
pub(crate) const CONTRACT: &str = r#"{"$id": "every", "type": "object", "required": ["id", "kind"], "additionalProperties": false,
 "properties": {
  "id": {"type": "string", "maxLength": 40}, "kind": {"type": "string", "enum": ["a", "b"]},
  "flag": {"type": ["boolean", "null"]}, "count": {"type": "integer", "minimum": -5, "maximum": 9007199254740993},
  "ratio": {"type": "number"}, "amount": {"type": "number", "x-decimal": {"precision": 18, "scale": 3}},
  "at": {"type": "string", "format": "date-time"}, "day": {"type": "string", "format": "date"},
  "time": {"type": "string", "format": "time"}, "wait": {"type": "string", "format": "duration"},
  "place": {"type": "object", "required": ["country"], "properties": {"country": {"type": "string"}, "zip": {"type": "string"}}},
  "tags": {"type": "array", "items": {"type": ["string", "null"]}}},
 "allOf": [{"if": {"properties": {"kind": {"const": "b"}}}, "then": {"required": ["count"]}}]}"#;

/// A pipeline whose one job is whatever the fuzzer says.
const PIPELINE: &str = "pipeline: p\nclock: event_time\nsources:\n  a: { contract: c.json, files: a.ndjson, unique: [id] }\n  \
                        b: { contract: c.json, files: b.ndjson, upsert: [id] }\njobs:\n  job: { sql: job.sql }\n";

/// How messages say how they are packed; the first byte chooses.
const CONTENT_TYPES: [Option<&str>; 5] = [
    None,
    Some("application/json"),
    Some("application/x-ndjson"),
    Some("application/vnd.apache.arrow.stream"),
    Some("text/plain"),
];

/// Each event is a row or a rejection, the same ones however often it is decoded, and a rejected event can be shown.
pub(crate) fn decoder(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let contract = Arc::new(contract_of(CONTRACT).expect("the contract is sound"));
    let content_type = CONTENT_TYPES.get(usize::from(*choice) % (CONTENT_TYPES.len() + 1));
    let headers = content_type.copied().flatten().map(|kind| ("Content-Type".to_owned(), kind.to_owned()));
    let message = RawMessage {
        stream: "S".into(),
        sequence: 1,
        subject: "s".into(),
        received_at: None,
        headers: headers.into_iter().collect(),
        columns: content_type.is_none().then(|| ["id", "kind", "count", "tags"].map(str::to_owned).into()),
        body: Bytes::copy_from_slice(body),
    };
    let mut decoder = Decoder::new(Arc::clone(&contract), Format::Json);
    let mut first = None;
    for _ in 0..2 {
        let mut rejections = Vec::new();
        let rows = decoder.decode(&message, &mut rejections);
        let indexes: Vec<u32> = rejections.iter().map(|rejection| rejection.index).collect();
        assert_eq!(decoder.event_bodies(&message, &indexes).len(), rejections.len());
        let batch = decoder.finish();
        assert_eq!(batch.num_rows(), rows);
        let said = (batch, rejections);
        match &first {
            None => first = Some(said),
            Some(first) => assert_eq!(*first, said),
        }
    }
}

fn contract_of(text: &str) -> Result<Contract, Diagnostics> {
    Contract::compile(&SourceText::new("c.json", text))
}

/// A contract compiles, or is told why not with places in its text.
pub(crate) fn contract(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match contract_of(&text) {
        Ok(contract) => drop(Decoder::new(Arc::new(contract), Format::Json)),
        Err(problems) => told(&problems),
    }
}

fn told(problems: &Diagnostics) {
    assert!(!problems.0.is_empty(), "a refusal says why");
    assert!(!problems.render(false).is_empty());
}

/// A pipeline file compiles, or is told why not.
pub(crate) fn pipeline(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let environment = |name: &str| (name == "SET").then(|| "value".to_owned());
    if let Err(problems) = compile(&SourceText::new("p.yaml", text), &environment, &read) {
        told(&problems);
    }
}

fn read(path: &Path, _: usize) -> Result<String, Unreadable> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Ok(CONTRACT.to_owned()),
        Some("sql") => Ok("SELECT 1 AS one".to_owned()),
        _ => Err(Unreadable::Missing),
    }
}

/// A job's SQL becomes a circuit, or is told why not.
pub(crate) fn sql(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let read = move |path: &Path, limit: usize| match path.extension().is_some_and(|extension| extension == "sql") {
        true => Ok(text.clone()),
        false => read(path, limit),
    };
    let compiled = compile(&SourceText::new("p.yaml", PIPELINE), &|_: &str| None, &read);
    let pipeline: Pipeline = match compiled {
        Ok(pipeline) => pipeline,
        Err(problems) => return told(&problems),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    if let Err(problems) = runtime.block_on(Box::pin(build_circuit(&pipeline))) {
        told(&problems);
    }
}
