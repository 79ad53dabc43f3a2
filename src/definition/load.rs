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
