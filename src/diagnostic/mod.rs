//! Errors for the authors of files: place, what is wrong, what would be right; all of them in one run.

mod render;
mod suggest;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

pub use suggest::{nearest, suggest};

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

impl SourceText {
    /// A text under the path by which it is shown.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), text: text.into() })
    }

    /// The byte offset of a place. `line` and `column` count from 1, columns in characters. A place beyond the end of
    /// its line is the line's end, a line beyond the last is the end of the text; zero counts as 1.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let mut start = 0;
        for _ in 1..line {
            match self.text[start..].find('\n') {
                Some(end) => start += end + 1,
                None => return self.text.len(),
            }
        }
        let rest = &self.text[start..];
        let rest = &rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())];
        let within = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(offset, _)| offset);
        start + within
    }

    /// The line of a byte offset, from 1.
    pub fn line(&self, offset: usize) -> usize {
        let bytes = self.text.as_bytes();
        let before = bytes.get(..offset.min(bytes.len())).unwrap_or_default();
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }

    /// The nearest character boundary at or before a byte offset.
    fn boundary(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset)
    }
}

impl Diagnostic {
    /// A problem at `span`, without label and help.
    pub fn new(file: &Arc<SourceText>, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { file: Arc::clone(file), span, message: message.into(), label: String::new(), help: None }
    }

    /// A problem of the whole file: it could not be read, or is empty.
    pub fn of_file(file: &Arc<SourceText>, message: impl Into<String>) -> Self {
        Self::new(file, 0..0, message)
    }

    /// A problem at a place as SQL parsers give it: `line` and `column` from 1, columns in characters. The span is the
    /// word that starts there, or one character. A place outside the text is moved to the nearest one inside.
    pub fn at_line_column(file: &Arc<SourceText>, line: usize, column: usize, message: impl Into<String>) -> Self {
        let start = file.offset(line, column);
        let rest = &file.text[start..];
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = match rest.chars().next() {
            Some(first) if word == 0 && !matches!(first, '\n' | '\r') => first.len_utf8(),
            _ => word,
        };
        Self::new(file, start..start + length, message)
    }

    /// The same, with what stands under the caret.
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The same, with what would be right.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl Diagnostics {
    /// Adds one problem.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many problems there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds the problems of another run.
    pub fn extend(&mut self, others: Diagnostics) {
        self.0.extend(others.0);
    }

    /// `value` if nothing is wrong, else the problems in order.
    pub fn into_result<T>(mut self, value: Option<T>) -> Result<T, Diagnostics> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => {
                debug_assert!(!self.is_empty(), "a missing value has a reason");
                self.sort();
                Err(self)
            }
        }
    }

    /// Nothing if nothing is wrong, else the problems in order.
    pub fn into_checked(self) -> Result<(), Diagnostics> {
        self.into_result(Some(()))
    }

    /// Orders by file and place and leaves out what is said twice.
    pub fn sort(&mut self) {
        self.0.sort_by(|a, b| (&a.file.path, a.span.start, &a.message).cmp(&(&b.file.path, b.span.start, &b.message)));
        self.0.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_and_column_is_a_byte_offset_even_behind_wide_characters() {
        let file = SourceText::new("x.sql", "SELECT 'ü€' AS a,\r\n  größe FROM t");
        let cases = [
            ((1, 1), "SELECT"),
            ((1, 13), "AS"),
            ((2, 3), "größe"),
            ((2, 9), "FROM"),
            ((2, 14), "t"),
            ((1, 17), ","),
            ((1, 99), ""),
            ((9, 1), ""),
            ((0, 0), "SELECT"),
        ];
        for ((line, column), expected) in cases {
            let diagnostic = Diagnostic::at_line_column(&file, line, column, "wrong");
            assert_eq!(&file.text[diagnostic.span.clone()], expected, "at {line}:{column}");
        }
    }
}
