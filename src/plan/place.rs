//! Places in SQL: from DataFusion's spans and parser errors, and from the words of a refused construct.

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::Span;
use datafusion::error::DataFusionError;

use crate::diagnostic::{Diagnostic, SourceText};

/// A construct that is refused: what it is, what to write instead, and how to find it in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What would be right.
    pub help: String,
    /// A word of the construct as it stands in the SQL; its first occurrence outside comments and strings is the place.
    pub word: String,
    /// The exact place, where the plan still knows it.
    pub span: Option<Span>,
}

impl Refusal {
    /// A refusal that is found by a word.
    pub fn new(message: impl Into<String>, help: impl Into<String>, word: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into(), word: word.into(), span: None }
    }

    /// The same at an exact place, if there is one.
    #[must_use]
    pub fn at(mut self, span: Option<Span>) -> Self {
        self.span = span;
        self
    }

    /// As a diagnostic of the file.
    pub fn diagnose(&self, file: &Arc<SourceText>) -> Diagnostic {
        let span = self
            .span
            .map(|span| byte_range(&file.text, span))
            .or_else(|| find_word(&file.text, &self.word))
            .unwrap_or_else(|| first_code(&file.text));
        Diagnostic {
            file: Arc::clone(file),
            span,
            message: self.message.clone(),
            label: String::new(),
            help: Some(self.help.clone()),
        }
    }
}

/// Everything that DataFusion says is wrong with the text.
pub(super) fn diagnose(error: &DataFusionError, file: &Arc<SourceText>) -> Vec<Diagnostic> {
    error.iter().map(|error| diagnose_one(error, file)).collect()
}

fn diagnose_one(error: &DataFusionError, file: &Arc<SourceText>) -> Diagnostic {
    if let Some(known) = error.diagnostic() {
        let mut helps: Vec<String> = known.helps.iter().map(|help| help.message.clone()).collect();
        helps.extend(known.notes.iter().map(|note| note.message.clone()));
        helps.dedup();
        let span = known.span.map(|span| byte_range(&file.text, span));
        return Diagnostic {
            file: Arc::clone(file),
            span: span.unwrap_or_else(|| first_code(&file.text)),
            message: sentence(&known.message),
            label: String::new(),
            help: (!helps.is_empty()).then(|| helps.join("; ")),
        };
    }
    let text = error.find_root().strip_backtrace();
    let span = line_and_column(&text).map(|(line, column)| at(&file.text, line, column));
    let message = text.split(" at Line: ").next().unwrap_or(&text);
    Diagnostic {
        file: Arc::clone(file),
        span: span
            .or_else(|| named_function(message).and_then(|name| find_word(&file.text, &name)))
            .unwrap_or_else(|| first_code(&file.text)),
        message: sentence(message),
        label: String::new(),
        help: None,
    }
}

/// DataFusion's message in the house's form: without its class, lower case, no full stop.
fn sentence(message: &str) -> String {
    let mut text = message.trim();
    for class in [
        "Error during planning: ",
        "SQL error: ",
        "Schema error: ",
        "This feature is not implemented: ",
        "type_coercion",
        "caused by",
        "Invalid function ",
    ] {
        text = text.strip_prefix(class).unwrap_or(text).trim_start();
    }
    let text = text.strip_prefix("ParserError(\"").map_or(text, |inner| inner.trim_end_matches("\")"));
    let text = text.trim_end_matches('.');
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

/// `'name'` of an error about a function.
fn named_function(message: &str) -> Option<String> {
    let quoted = message.split(['\'', '`']).nth(1)?;
    let name: String = quoted.chars().take_while(|&letter| letter.is_alphanumeric() || letter == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// `… at Line: 3, Column: 5` of a parser error.
fn line_and_column(message: &str) -> Option<(usize, usize)> {
    let rest = message.split("Line: ").nth(1)?;
    let line = rest.split(',').next()?.trim().parse().ok()?;
    let column: String = rest.split("Column: ").nth(1)?.chars().take_while(char::is_ascii_digit).collect();
    Some((line, column.parse().ok()?))
}

/// The word that stands at a line and column, both from 1.
fn at(text: &str, line: usize, column: usize) -> Range<usize> {
    let start = offset(text, line, column);
    let word = text[start..].chars().take_while(|&letter| letter.is_alphanumeric() || letter == '_');
    let length: usize = word.map(char::len_utf8).sum();
    let next = text[start..].chars().next().map_or(0, char::len_utf8);
    start..start + length.max(next)
}

fn byte_range(text: &str, span: Span) -> Range<usize> {
    let position = |line: u64, column: u64| {
        offset(text, usize::try_from(line).unwrap_or(usize::MAX), usize::try_from(column).unwrap_or(usize::MAX))
    };
    let start = position(span.start.line, span.start.column);
    let end = position(span.end.line, span.end.column);
    start..end.max(start)
}

/// The byte offset of a line and column, both from 1, columns in characters; the text's end if it is shorter.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let line = text[start..].split_inclusive('\n').next().unwrap_or("");
    start
        + line.char_indices().nth(column.saturating_sub(1)).map_or(line.trim_end_matches('\n').len(), |(byte, _)| byte)
}

/// The first occurrence of a word outside comments and strings, whatever its case.
pub(super) fn find_word(text: &str, word: &str) -> Option<Range<usize>> {
    let code = blank_comments_and_strings(text).to_ascii_lowercase();
    let word = word.to_ascii_lowercase();
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(&word).map(|(start, _)| start..start + word.len()).find(|range| {
        !code[..range.start].chars().next_back().is_some_and(is_part)
            && !code[range.end..].chars().next().is_some_and(is_part)
    })
}

/// The first line that is not a comment.
fn first_code(text: &str) -> Range<usize> {
    let code = blank_comments_and_strings(text);
    let start = code.len() - code.trim_start().len();
    let end = code[start..].find('\n').map_or(code.len(), |length| start + length);
    start..code[start..end].trim_end().len() + start
}

/// The text with every byte of comments and strings replaced by a space; lengths and lines stay.
fn blank_comments_and_strings(text: &str) -> String {
    let mut blank = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '\'' {
            rest[1..].find('\'').map_or(rest.len(), |end| end + 2)
        } else {
            blank.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        blank.extend(rest[..length].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    blank
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_strings_are_not_the_place() {
        let text = "-- limit\nSELECT 'limit' /* limit */ FROM t LIMIT 3";
        assert_eq!(find_word(text, "limit"), Some(43..48));
        assert_eq!(&text[43..48], "LIMIT");
        assert_eq!(find_word("SELECT limits FROM t", "limit"), None);
    }

    #[test]
    fn columns_count_characters_and_offsets_bytes() {
        assert_eq!(offset("é = x\nab", 1, 5), 5);
        assert_eq!(offset("é = x\nab", 2, 2), 8);
        assert_eq!(offset("a", 9, 9), 1);
    }
}
