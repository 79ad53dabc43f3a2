//! Readers from tree to typed values: each says what it expected and what it found, and goes on.

use std::ops::Range;
use std::sync::Arc;

use super::tree::{Content, Entry, Node, Syntax, Text, shorten};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceText, suggest};

/// A value with the bytes it stands on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placed<T> {
    pub(crate) span: Range<usize>,
    pub(crate) value: T,
}

/// A text with its place.
pub(crate) type Word = Placed<Text>;

/// Where problems of one file go.
pub(crate) struct Report<'a> {
    pub(crate) file: &'a Arc<SourceText>,
    pub(crate) problems: &'a mut Diagnostics,
    pub(crate) syntax: Syntax,
}

/// A field that the format has a name for but this version does not do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Later {
    pub(crate) name: &'static str,
    /// What to do without it.
    pub(crate) instead: &'static str,
}

impl Report<'_> {
    /// A problem with help.
    pub(crate) fn problem(&mut self, span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Diagnostic::new(self.file, span.clone(), message).with_help(help));
    }

    /// `what` was expected to be `expected`.
    pub(crate) fn mismatch(&mut self, node: &Node, what: &str, expected: &str, help: impl Into<String>) {
        if node.content != Content::Broken {
            let message = format!("{what} must be {expected}, found {}", node.found(self.syntax));
            self.problem(&node.span, message, help);
        }
    }

    /// The entries of a map.
    pub(crate) fn map<'n>(&mut self, node: &'n Node, what: &str, help: &str) -> Option<&'n [Entry]> {
        match &node.content {
            Content::Map(entries) => Some(entries),
            _ => {
                self.mismatch(node, what, self.syntax.map(), help);
                None
            }
        }
    }

    /// The items of a list.
    pub(crate) fn list<'n>(&mut self, node: &'n Node, what: &str, help: &str) -> Option<&'n [Node]> {
        match &node.content {
            Content::List(items) => Some(items),
            _ => {
                self.mismatch(node, what, self.syntax.list(), help);
                None
            }
        }
    }

    /// A text that is not empty.
    pub(crate) fn word(&mut self, node: &Node, what: &str) -> Option<Word> {
        let text = self.syntax.text();
        let help = match &node.content {
            Content::Number(_) | Content::Boolean(_) => format!("put it in quotes if it is meant as a {text}"),
            _ => format!("write a {text}"),
        };
        match &node.content {
            Content::Text(text) if !text.value.trim().is_empty() => {
                Some(Placed { span: node.span.clone(), value: text.clone() })
            }
            Content::Text(_) => {
                self.problem(&node.span, format!("{what} is empty"), help);
                None
            }
            _ => {
                self.mismatch(node, what, &format!("a {text}"), help);
                None
            }
        }
    }

    /// A whole number within bounds, both included.
    pub(crate) fn integer(&mut self, node: &Node, what: &str, minimum: u64, maximum: u64) -> Option<u64> {
        let written = match &node.content {
            Content::Number(written) => Some(written.as_str()),
            Content::Text(text) if text.is_expanded() => Some(text.value.as_str()),
            _ => None,
        };
        let value = written.and_then(|written| written.parse::<u64>().ok());
        if let Some(value) = value.filter(|value| (minimum..=maximum).contains(value)) {
            return Some(value);
        }
        let range =
            if maximum == u64::MAX { format!("from {minimum}") } else { format!("from {minimum} to {maximum}") };
        let help = format!("write a number such as `{}`", minimum.max(1000).min(maximum));
        self.mismatch(node, what, &format!("a whole number {range}"), help);
        None
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.content {
            Content::Boolean(value) => Some(*value),
            _ => {
                self.mismatch(node, what, "`true` or `false`", "write `true` or `false`, without quotes");
                None
            }
        }
    }

    /// One of some words; its index.
    pub(crate) fn choice(&mut self, node: &Node, what: &str, choices: &[&str]) -> Option<usize> {
        let Content::Text(text) = &node.content else {
            let expected = format!("a {}", self.syntax.text());
            self.mismatch(node, what, &expected, suggest("", choices.iter().copied()));
            return None;
        };
        let found = choices.iter().position(|choice| *choice == text.value);
        if found.is_none() {
            let help = suggest(&text.written, choices.iter().copied());
            self.problem(&node.span, format!("{what} can't be `{}`", shorten(&text.written)), help);
        }
        found
    }

    /// Reports every entry whose key is neither known nor to come. `lacks` begins the sentence: `a source has no field`.
    pub(crate) fn unknown_fields(&mut self, entries: &[Entry], lacks: &str, known: &[&str], later: &[Later]) {
        for entry in entries {
            if known.contains(&entry.key.as_str()) {
                continue;
            }
            let key = shorten(&entry.key);
            if let Some(later) = later.iter().find(|later| later.name == entry.key) {
                self.problem(&entry.key_span, format!("`{key}` is not supported yet"), later.instead);
                continue;
            }
            let help = suggest(&entry.key, known.iter().copied());
            self.problem(&entry.key_span, format!("{lacks} `{key}`"), help);
        }
    }
}
