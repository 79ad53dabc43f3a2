//! Places in SQL: from DataFusion's spans and parser errors, and from the words of a refused construct.

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::Span;

use crate::diagnostic::{Diagnostic, SourceText};

/// A construct that is refused: what it is, what to write instead, and how to find it in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What would be right; `{}` stands for the arguments of the call that is refused, as they are written.
    pub help: String,
    /// Words of the construct as they stand in the SQL; the first occurrence outside comments and strings is the place.
    /// `not in` is two words in a row; `rollup|cube` is tried in order.
    pub word: String,
    /// The exact place, where the plan still knows it.
    pub span: Option<Span>,
    /// A place inside the brackets behind the words, which tells one call of a function from another.
    pub inside: Option<Span>,
}

impl Refusal {
    /// A refusal that is found by its words.
    pub fn new(message: impl Into<String>, help: impl Into<String>, word: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into(), word: word.into(), span: None, inside: None }
    }

    /// The same at an exact place, if there is one.
    #[must_use]
    pub fn at(mut self, span: Option<Span>) -> Self {
        self.span = span;
        self
    }

    /// The same for the call around a place, if there is one.
    #[must_use]
    pub fn inside(mut self, inside: Option<Span>) -> Self {
        self.inside = inside;
        self
    }

    /// As a diagnostic of the file.
    pub fn diagnose(&self, file: &Arc<SourceText>) -> Diagnostic {
        let span = self
            .span
            .map(|span| byte_range(&file.text, span))
            .or_else(|| find_call(&file.text, &self.word, byte_range(&file.text, self.inside?).start))
            .or_else(|| find_word(&file.text, &self.word))
            .unwrap_or_else(|| first_code(&file.text));
        let arguments = arguments(&file.text, span.end).unwrap_or_else(|| "x".to_owned());
        Diagnostic {
            file: Arc::clone(file),
            span,
            message: self.message.clone(),
            label: String::new(),
            help: Some(self.help.replace("{}", &arguments)),
        }
    }
}

/// The innermost call of a function around a place, or the last one before it.
fn find_call(text: &str, name: &str, inside: usize) -> Option<Range<usize>> {
    let code = blank_comments_and_strings(text).to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    let calls: Vec<Range<usize>> = code
        .match_indices(&name)
        .map(|(start, _)| start..start + name.len())
        .filter(|range| range.start <= inside && stands_alone(&code, range) && brackets(&code, range.end).is_some())
        .collect();
    let around = calls.iter().rfind(|call| brackets(&code, call.end).is_some_and(|found| found.contains(&inside)));
    around.or(calls.last()).cloned()
}

/// What stands between the brackets that open behind `start`.
fn brackets(code: &str, start: usize) -> Option<Range<usize>> {
    let open = start + (code[start..].len() - code[start..].trim_start().len());
    if !code[open..].starts_with('(') {
        return None;
    }
    let mut depth = 0_usize;
    for (offset, letter) in code[open..].char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 1 => return Some(open + 1..open + offset),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The arguments of the call whose name ends at `end`, on one line, without DISTINCT and ORDER BY.
fn arguments(text: &str, end: usize) -> Option<String> {
    let code = blank_comments_and_strings(text);
    let range = brackets(&code, end)?;
    let ordered = find_word(&code[range.clone()], "order by").map_or(range.end, |found| range.start + found.start);
    let words: Vec<&str> = text[range.start..ordered].split_whitespace().collect();
    let words = match words.as_slice() {
        [first, rest @ ..] if first.eq_ignore_ascii_case("distinct") => rest,
        all => all,
    };
    (!words.is_empty()).then(|| words.join(" "))
}

/// `… at Line: 3, Column: 5` of a parser error.
pub(super) fn line_and_column(message: &str) -> Option<(usize, usize)> {
    let rest = message.split("Line: ").nth(1)?;
    let line = rest.split(',').next()?.trim().parse().ok()?;
    let column: String = rest.split("Column: ").nth(1)?.chars().take_while(char::is_ascii_digit).collect();
    Some((line, column.parse().ok()?))
}

/// The word that stands at a line and column, both from 1.
pub(super) fn at(text: &str, line: usize, column: usize) -> Range<usize> {
    let start = offset(text, line, column);
    let word = text[start..].chars().take_while(|&letter| letter.is_alphanumeric() || letter == '_');
    let length: usize = word.map(char::len_utf8).sum();
    let next = text[start..].chars().next().map_or(0, char::len_utf8);
    start..start + length.max(next)
}

pub(super) fn byte_range(text: &str, span: Span) -> Range<usize> {
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

/// The first occurrence of words outside comments and strings, whatever their case: `not in` is two in a row with nothing
/// but space between them, of `rollup|cube` the first that occurs is taken.
pub(super) fn find_word(text: &str, words: &str) -> Option<Range<usize>> {
    let code = blank_comments_and_strings(text).to_ascii_lowercase();
    let words = words.to_ascii_lowercase();
    words.split('|').find_map(|phrase| {
        let (first, rest) = phrase.split_once(' ').unwrap_or((phrase, ""));
        let starts = code.match_indices(first).map(|(start, _)| start..start + first.len());
        starts.filter(|range| !first.is_empty() && stands_alone(&code, range)).find_map(|range| {
            rest.split_whitespace().try_fold(range, |found, word| {
                let behind = &code[found.end..];
                let start = found.end + (behind.len() - behind.trim_start().len());
                let next = start..start + word.len();
                (code[start..].starts_with(word) && stands_alone(&code, &next)).then_some(found.start..next.end)
            })
        })
    })
}

/// Whether what stands in the range is not part of a longer word.
fn stands_alone(code: &str, range: &Range<usize>) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let word = &code[range.clone()];
    let (first, last) = (word.chars().next(), word.chars().next_back());
    let goes_on_before = first.is_some_and(is_part) && code[..range.start].chars().next_back().is_some_and(is_part);
    let goes_on_behind = last.is_some_and(is_part) && code[range.end..].chars().next().is_some_and(is_part);
    !goes_on_before && !goes_on_behind
}

/// The first line that is not a comment.
pub(super) fn first_code(text: &str) -> Range<usize> {
    let code = blank_comments_and_strings(text);
    let start = code.len() - code.trim_start().len();
    let end = code[start..].find('\n').map_or(code.len(), |length| start + length);
    start..code[start..end].trim_end().len() + start
}

/// The text with every byte of comments and strings replaced by a space; lengths and lines stay.
pub(super) fn blank_comments_and_strings(text: &str) -> String {
    let mut blank = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '\'' {
            rest[1..].find('\'').map_or(rest.len(), |end| end + 2)
        } else if let Some(end) = rest.strip_prefix('"').and_then(|inner| inner.find('"')) {
            blank.push_str(&rest[..end + 2]);
            rest = &rest[end + 2..];
            continue;
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
        assert_eq!(find_word("SELECT \"it's\" FROM t LIMIT 3", "limit"), Some(21..26));
        assert_eq!(find_word("x IN (1) AND y NOT\n IN (2)", "not in"), Some(15..22));
        assert_eq!(find_word("GROUP BY CUBE (x)", "rollup|cube"), Some(9..13));
        assert_eq!(find_word("SELECT x, (select y)", "( select"), Some(10..17));
    }

    #[test]
    fn columns_count_characters_and_offsets_bytes() {
        assert_eq!(offset("é = x\nab", 1, 5), 5);
        assert_eq!(offset("é = x\nab", 2, 2), 8);
        assert_eq!(offset("a", 9, 9), 1);
    }
}
