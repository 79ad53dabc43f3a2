//! Edge: reads the pipeline file, and the contracts and SQL files that it names, from the file system.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::compile::{Unreadable, compile};
use super::environment::Environment;
use super::pipeline::Pipeline;
use crate::diagnostic::{Diagnostic, Diagnostics, SourceText};

/// A pipeline file longer than this is refused.
const PIPELINE_BYTES_MAX: usize = 1024 * 1024;

/// Reads and checks the pipeline file at `path`. An `Err` holds every problem of that file and of the contracts; SQL is
/// read, not planned. `environment` gives the values of `${VAR}`.
pub fn load(path: &Path, environment: Environment<'_>) -> Result<Pipeline, Diagnostics> {
    let text = read(path, PIPELINE_BYTES_MAX).map_err(|problem| no_pipeline(path, &problem))?;
    compile(&SourceText::new(path, text), environment, &read)
}

/// The text of a file of at most `limit_bytes`.
fn read(path: &Path, limit_bytes: usize) -> Result<String, Unreadable> {
    let refused = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Unreadable::Missing,
        _ => Unreadable::Refused(error.to_string()),
    };
    // Asked before it is opened: opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(refused)?.is_file() {
        return Err(Unreadable::Refused("it is not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(refused)?.take(limit_bytes as u64 + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() > limit_bytes {
        return Err(Unreadable::TooLong(limit_bytes));
    }
    String::from_utf8(bytes).map_err(|error| Unreadable::NotText(error.utf8_error().valid_up_to()))
}

fn no_pipeline(path: &Path, problem: &Unreadable) -> Diagnostics {
    let file = SourceText::new(path, "");
    let (message, help) = match problem {
        Unreadable::Missing => ("the pipeline file does not exist".to_owned(), "check the path".to_owned()),
        Unreadable::TooLong(limit) => {
            ("the pipeline file is too long".to_owned(), format!("at most {} KiB are read", limit / 1024))
        }
        Unreadable::NotText(byte) => {
            ("the pipeline file is not UTF-8 text".to_owned(), format!("byte {byte} is the first that is wrong"))
        }
        Unreadable::Refused(why) => ("the pipeline file can't be read".to_owned(), why.clone()),
    };
    Diagnostics::from(Diagnostic::of_file(&file, message).with_help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `load` says about a pipeline whose file holds `pipeline` and whose SQL file holds `sql`.
    fn check(pipeline: &[u8], sql: &[u8], expected: &str) {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let contract = br#"{"type": "object", "properties": {"a": {"type": "string"}}}"#;
        let files: [(&str, &[u8]); 3] = [("p.yaml", pipeline), ("a.sql", sql), ("a.json", contract)];
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).expect("a file can be written");
        }
        let problems = load(&folder.path().join("p.yaml"), &|_| None).err().unwrap_or_default();
        let said: Vec<String> = problems
            .0
            .iter()
            .map(|problem| format!("{}; {}", problem.message, problem.help.as_deref().unwrap_or_default()))
            .map(|text| text.replace(&format!("{}/", folder.path().display()), ""))
            .collect();
        assert_eq!(said.join("\n"), expected);
    }

    #[test]
    fn files_that_are_too_long_or_no_text_are_refused_with_the_reason() {
        let pipeline =
            b"pipeline: p\nsources: { s: { contract: a.json, files: a.csv } }\njobs: { j: { sql: a.sql } }\n";
        check(pipeline, b"SELECT 1", "");
        check(pipeline, &[b' '; 256 * 1024 + 1], "the SQL file `a.sql` is too long; at most 256 KiB are read");
        check(pipeline, b"SELECT '\xff'", "the SQL file `a.sql` is not UTF-8 text; byte 8 is the first that is wrong");
        check(&[b' '; 1024 * 1024 + 1], b"", "the pipeline file is too long; at most 1024 KiB are read");
        check(b"pipeline: \xff", b"", "the pipeline file is not UTF-8 text; byte 10 is the first that is wrong");
    }

    #[test]
    fn a_pipeline_file_that_is_not_there_is_named() {
        let problems = load(Path::new("no/such.yaml"), &|_| None).err().unwrap_or_default();
        let expected = "error: the pipeline file does not exist\n--> no/such.yaml\n = help: check the path\n";
        assert_eq!(problems.render(false), expected);
    }
}
