//! Errors for the authors of files: place, what is wrong, what would be right; all of them in one run.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// A file that an author wrote, as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceText {
    /// The path as it was given, for display.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

/// One problem in one place of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file.
    pub file: Arc<SourceText>,
    /// The bytes that are wrong; empty where the problem is the whole file.
    pub span: Range<usize>,
    /// What is wrong: lower case, no full stop, values in backticks.
    pub message: String,
    /// What stands under the caret; may be empty.
    pub label: String,
    /// What would be right.
    pub help: Option<String>,
}

/// All problems of one run, in the order of files and places. Never empty inside an `Err`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics(pub Vec<Diagnostic>);
