//! `${VAR}` and `${VAR:-default}` in values: expanded from an environment that comes in as an argument. Keys are never
//! expanded. Where a value came from a variable, messages show the text as written, because the value may be a secret.

use std::sync::Arc;

use super::tree::{Content, Node, Text, shorten};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceText};

/// The value of an environment variable, none if it is not set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands every text of the tree in place. `$${` stands for `${`. A variable that is not set and has no default is a
/// problem; one that is set to nothing takes the default, as in a shell.
pub(crate) fn expand(
    node: &mut Node,
    environment: Environment<'_>,
    file: &Arc<SourceText>,
    problems: &mut Diagnostics,
) {
    let span = node.span.clone();
    match &mut node.content {
        Content::Text(text) if text.value.contains("${") => {
            let mut expansion = Expansion { file, environment, problems, span };
            match expansion.expand(text) {
                Some(value) => text.value = value,
                None => node.content = Content::Broken,
            }
        }
        Content::List(items) => {
            for item in items {
                expand(item, environment, file, problems);
            }
        }
        Content::Map(entries) => {
            for entry in entries {
                expand(&mut entry.node, environment, file, problems);
            }
        }
        _ => {}
    }
}

/// What of a text stands in the file itself: variables are taken out, their defaults left.
pub(crate) fn literal(written: &str) -> String {
    let mut literal = String::new();
    let mut rest = written;
    while let Some((before, inner)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            literal.extend([before, "${"]);
            rest = inner;
            continue;
        }
        literal.push_str(before);
        let (variable, behind) = inner.split_once('}').unwrap_or((inner, ""));
        literal.push_str(variable.split_once(":-").map_or("", |(_, default)| default));
        rest = behind;
    }
    literal.push_str(rest);
    literal
}

struct Expansion<'a> {
    file: &'a Arc<SourceText>,
    environment: Environment<'a>,
    problems: &'a mut Diagnostics,
    span: std::ops::Range<usize>,
}

impl Expansion<'_> {
    /// The text with its variables in it; none with a problem for each that can't be.
    fn expand(&mut self, text: &Text) -> Option<String> {
        let mut expanded = Some(String::new());
        let mut push = |more: Option<&str>| match more {
            Some(more) => expanded.iter_mut().for_each(|expanded| expanded.push_str(more)),
            None => expanded = None,
        };
        let mut rest = text.written.as_str();
        while let Some(at) = rest.find("${") {
            let inner = &rest[at + 2..];
            if let Some(before) = rest[..at].strip_suffix('$') {
                push(Some(before));
                push(Some("${"));
                rest = inner;
                continue;
            }
            push(Some(&rest[..at]));
            let Some(end) = inner.find('}') else {
                let help = "write `${NAME}`, or `$${` for the two characters";
                self.problem(&rest[at..], "`${` is not closed".to_owned(), help);
                return None;
            };
            push(self.variable(&inner[..end]).as_deref());
            rest = &inner[end + 1..];
        }
        push(Some(rest));
        expanded
    }

    /// The value of `NAME` or `NAME:-default`; none with a problem if there is none.
    fn variable(&mut self, inner: &str) -> Option<String> {
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let written = format!("${{{inner}}}");
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let message = format!("`{}` is not the name of an environment variable", shorten(name));
            self.problem(&written, message, "letters, digits and `_`, as in `${HOME}` or `${PORT:-4222}`");
            return None;
        }
        let value = (self.environment)(name).filter(|value| !(value.is_empty() && default.is_some()));
        let value = value.or_else(|| default.map(str::to_owned));
        if value.is_none() {
            let message = format!("the environment variable `{name}` is not set");
            self.problem(&written, message, &format!("set it, or give a default: `${{{name}:-…}}`"));
        }
        value
    }

    /// Points at `written` within the value where it is found there unchanged, else at the whole value.
    fn problem(&mut self, written: &str, message: String, help: &str) {
        let slice = self.file.text.get(self.span.clone()).unwrap_or_default();
        let span = match slice.find(written) {
            Some(at) => self.span.start + at..self.span.start + at + written.len(),
            None => self.span.clone(),
        };
        self.problems.push(Diagnostic::new(self.file, span, message).with_help(help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: &str, expected: Result<&str, &str>) {
        let environment = |name: &str| match name {
            "A" => Some("alpha".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        };
        let file = SourceText::new("x.yaml", written);
        let mut node = Node { span: 0..written.len(), content: Content::Text(Text::literal(written)) };
        let mut problems = Diagnostics::default();
        expand(&mut node, &environment, &file, &mut problems);
        let outcome = match problems.0.first() {
            Some(problem) => Err(problem.message.clone()),
            None => Ok(node),
        };
        match (outcome, expected) {
            (Ok(Node { content: Content::Text(text), .. }), Ok(expected)) => assert_eq!(text.value, expected),
            (outcome, expected) => assert_eq!(outcome.err().as_deref(), expected.err(), "of `{written}`"),
        }
    }

    #[test]
    fn variables_are_expanded_once_and_defaults_fill_in() {
        check("x-${A}-y", Ok("x-alpha-y"));
        check("${A}${B:-beta}", Ok("alphabeta"));
        check("${EMPTY:-beta}|${EMPTY}|${B:-}", Ok("beta||"));
        check("${NESTED}", Ok("${A}"));
        check("$${A} costs $5", Ok("${A} costs $5"));
        check("${B}", Err("the environment variable `B` is not set"));
        check("${A", Err("`${` is not closed"));
        check("${}", Err("`` is not the name of an environment variable"));
        check("${A B}", Err("`A B` is not the name of an environment variable"));
    }

    #[test]
    fn what_stands_in_the_file_is_all_but_variables() {
        for (written, expected) in [
            ("", ""),
            ("abc", "abc"),
            ("${A}", ""),
            ("x-${A}-y", "x--y"),
            ("${A:-b}", "b"),
            ("${A:-}${B:-c}", "c"),
            ("a$${b}", "a${b}"),
            ("${A", ""),
        ] {
            assert_eq!(literal(written), expected, "of `{written}`");
        }
    }
}
