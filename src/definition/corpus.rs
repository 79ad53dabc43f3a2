//! The texts that authors read: every `tests/definitions/*.yaml` is a pipeline, and the `.expected` file beside it is
//! exactly what is said about it (nothing, where it is right). `UPDATE_EXPECTED=1` writes them anew. Adding a test is
//! adding a file.

use std::path::{Path, PathBuf};

use super::{Unreadable, compile, load, pipeline_json_schema};
use crate::definition::contract::Contract;
use crate::definition::pipeline::Pipeline;
use crate::diagnostic::{Diagnostics, SourceText};

/// Variables that pipelines of the corpus may use.
fn environment(name: &str) -> Option<String> {
    match name {
        "MILEPOST_STREAM" => Some("MILESTONES".to_owned()),
        "MILEPOST_ROWS" => Some("500".to_owned()),
        "MILEPOST_SECRET" => Some("hunter2.xlsx".to_owned()),
        _ => None,
    }
}

/// A small pipeline that is right, with more lines in it: a stream `events`, a file `lines`, a job `all_events`.
pub(super) fn pipeline(more: &str) -> Pipeline {
    let text = format!(
        "pipeline: p\nsources:\n  \
         events: {{ contract: c.json, jetstream: {{ stream: S, subjects: [s] }}, event_time: at }}\n  \
         lines: {{ contract: c.json, files: x.csv, upsert: [id] }}\n\
         jobs: {{ all_events: {{ sql: a.sql, key: [id] }} }}\n{more}\n"
    );
    let contract = r#"{"type": "object", "required": ["id"], "properties": {
        "id": {"type": "string"}, "at": {"type": "string", "format": "date-time"}}}"#;
    let read = |path: &Path, _| match path.to_str() {
        Some("c.json") => Ok(contract.to_owned()),
        Some("a.sql") => Ok("SELECT * FROM events".to_owned()),
        _ => Err(Unreadable::Missing),
    };
    let pipeline = compile(&SourceText::new("p.yaml", text), &|_| None, &read);
    pipeline.unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("the folder can be listed").path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files
}

/// The files of a folder of the shipped pipelines.
fn shipped(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = root().join(folder);
    if folder.is_dir() { files(&folder, extension) } else { Vec::new() }
}

/// Compares `actual` with the `.expected` file beside `path`, or writes it.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says so in the environment")]
fn compare(path: &Path, actual: &str, failures: &mut Vec<String>) {
    let expected_path = path.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&expected_path, actual).expect("the expected text can be written");
        return;
    }
    let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
    if expected != actual {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        failures.push(format!("=== {name}: expected\n{expected}=== but is\n{actual}"));
    }
}

/// What is said about a definition, with paths relative to the corpus.
fn said<T>(outcome: Result<T, Diagnostics>, folder: &Path) -> String {
    let text = outcome.err().map(|problems| problems.render(false)).unwrap_or_default();
    text.replace(&format!("{}/", folder.display()), "")
}

#[test]
fn every_pipeline_of_the_corpus_is_told_exactly_what_stands_beside_it() {
    let folder = root().join("tests/definitions");
    let mut failures = Vec::new();
    for path in files(&folder, "yaml") {
        let actual = said(load(&path, &environment), &folder);
        assert!(!actual.contains("hunter2"), "a variable's value is shown for {}", path.display());
        compare(&path, &actual, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_contract_of_the_corpus_is_told_exactly_what_stands_beside_it() {
    let folder = root().join("tests/definitions/contracts");
    let mut failures = Vec::new();
    for path in files(&folder, "json") {
        let text = std::fs::read_to_string(&path).expect("a contract of the corpus is text");
        let actual = said(Contract::compile(&SourceText::new(&path, text)), &folder);
        compare(&path, &actual, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_expected_text_has_its_definition() {
    let folder = root().join("tests/definitions");
    for (folder, extension) in [(folder.clone(), "yaml"), (folder.join("contracts"), "json")] {
        for expected in files(&folder, "expected") {
            assert!(expected.with_extension(extension).exists(), "{} has no definition", expected.display());
        }
    }
}

/// Cut off anywhere, or with any byte replaced, a right file is right or is told why it is not: nothing panics.
#[test]
fn a_damaged_definition_is_answered() {
    let folder = root().join("tests/definitions");
    let yaml = std::fs::read_to_string(folder.join("right-everything.yaml")).expect("the pipeline is there");
    let json = std::fs::read_to_string(folder.join("contracts/event.v1.json")).expect("the contract is there");
    let nothing = |_: &Path, _| Err(Unreadable::Missing);
    for at in 0..=yaml.len() {
        for damaged in damage(&yaml, at) {
            let outcome = compile(&SourceText::new("x.yaml", damaged), &environment, &nothing);
            assert_ne!(said(outcome, &folder), "", "no file can be read");
        }
    }
    for at in 0..=json.len() {
        for damaged in damage(&json, at) {
            said(Contract::compile(&SourceText::new("x.json", damaged)), &folder);
        }
    }
}

fn damage(text: &str, at: usize) -> Vec<String> {
    let (before, after) = (&text[..at], text.get(at + 1..).unwrap_or_default());
    let mut damaged: Vec<String> =
        ["", ":", "[", "}", "\"", "ü", "\t", "\0"].iter().map(|c| format!("{before}{c}{after}")).collect();
    damaged.push(before.to_owned());
    damaged
}

#[test]
fn shipped_contracts_compile() {
    for path in shipped("pipelines/contracts", "json") {
        let text = std::fs::read_to_string(&path).expect("a contract is text");
        let problems = said(Contract::compile(&SourceText::new(&path, text)), &root());
        assert_eq!(problems, "");
    }
}

#[test]
fn shipped_pipelines_are_right() {
    for path in shipped("pipelines", "yaml") {
        assert_eq!(said(load(&path, &environment), &root()), "");
    }
}

/// The JSON Schema and the reader agree: what the reader accepts, the schema accepts; what breaks the structure of the
/// file (`structure-*.yaml`) the schema refuses too.
#[test]
fn the_schema_accepts_what_is_right_and_refuses_broken_structure() {
    let validator = jsonschema::validator_for(&pipeline_json_schema()).expect("the schema is one");
    let corpus = files(&root().join("tests/definitions"), "yaml");
    let shipped = shipped("pipelines", "yaml");
    for path in corpus.iter().chain(&shipped) {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let Ok(value) = serde_saphyr::from_str::<serde_json::Value>(&text) else { continue };
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if load(path, &environment).is_ok() {
            assert!(errors.is_empty(), "{name} is right, but the schema says {errors:?}");
        } else if name.starts_with("structure-") {
            assert!(!errors.is_empty(), "the schema accepts {name}");
        }
    }
}
